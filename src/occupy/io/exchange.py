"""What RELION hands over for one class: the files of ``--external_reconstruct``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.star import StarTable, read_star

_NAME = re.compile(
    r"(?P<root>.*?)(?:_it(?P<iteration>\d+))?(?:_half(?P<half>[12]))?_class(?P<number>\d+)_external_reconstruct\.star"
)
_HEADER_BYTES = 1024


@dataclass(frozen=True)
class Exchange:
    """One call of RELION.

    Attributes
    ----------
    star : Path
        The STAR file RELION named.
    result : Path
        Where the map must be written.
    real, imaginary : Path
        Sums Σ p CTF X/σ² of the particles' coefficients X on the padded grid.
    weight : Path
        Weights Σ p CTF²/σ² on the padded grid.
    iteration, half, number : int
        Iteration, half-set (0 where there is one set only) and class, from the file's name.
    box, current_size : int
        Of the images, and of the part of their transforms in use.
    padding : float
        Of the grid of the weights.
    fudge : float
        The regularisation parameter T.
    tau2 : ndarray, shape (shells,)
        RELION's prior, before T.
    pixel_size, diameter : float or None
        Å; RELION 5.0.1 writes them here.
    """

    star: Path
    result: Path
    real: Path
    imaginary: Path
    weight: Path
    iteration: int
    half: int
    number: int
    box: int
    current_size: int
    padding: float
    fudge: float
    tau2: npt.NDArray[np.float64]
    pixel_size: float | None
    diameter: float | None

    @property
    def shells(self) -> int:
        """Number of shells that hold data, the origin included."""
        return min(self.current_size, self.box) // 2 + 1


def read_exchange(path: str | Path) -> Exchange:
    """Read the STAR file of a call.

    Raises
    ------
    InputError
        Where it is not one of a 3D reconstruction, or its name has no class.
    """
    star = Path(path)
    name = _NAME.fullmatch(star.name)
    if name is None:
        raise InputError(f"{star}: expected a name like run_it001_class001_external_reconstruct.star")
    tables = read_star(star)
    general, prior = tables.get("external_reconstruct_general"), tables.get("external_reconstruct_tau2")
    if general is None or prior is None:
        raise InputError(f"{star}: not a file of RELION's external reconstruction")
    if _number(general, "rlnReferenceDimensionality", 3) != 3:
        raise InputError(f"{star}: a 2D reference; maps are needed")
    box = int(_number(general, "rlnOriginalImageSize"))
    return Exchange(
        star=star,
        result=Path(general.value("rlnExtReconsResult")),
        real=_beside(star, general, "rlnExtReconsDataReal"),
        imaginary=_beside(star, general, "rlnExtReconsDataImag"),
        weight=_beside(star, general, "rlnExtReconsWeight"),
        iteration=int(name["iteration"] or 0),
        half=int(name["half"] or 0),
        number=int(name["number"]),
        box=box,
        current_size=int(_number(general, "rlnCurrentImageSize", box)),
        padding=_number(general, "rlnPaddingFactor", 1.0),
        fudge=_number(general, "rlnTau2FudgeFactor", 1.0),
        tau2=np.array(prior.numbers("rlnReferenceTau2")),
        pixel_size=_first(general, ("rlnPixelSize", "rlnTomoPixelSize")),
        diameter=_first(general, ("rlnParticleDiameter",)),
    )


def _beside(star: Path, general: StarTable, name: str) -> Path:
    """Return a file that a call names relative to the project, as it lies beside the STAR file.

    RELION writes all of a call's files into one folder, and that may have been moved.
    """
    if not general.has(name):
        return star.with_name("none")
    named = Path(general.value(name))
    beside = star.with_name(named.name)
    return beside if beside.exists() or not named.exists() else named


def _number(table: StarTable, name: str, missing: float | None = None) -> float:
    if missing is not None and not table.has(name):
        return missing
    return table.numbers(name)[0]


def _first(table: StarTable, names: tuple[str, ...]) -> float | None:
    return next((table.numbers(name)[0] for name in names if table.has(name)), None)


def half_complex(path: Path) -> npt.NDArray[np.float32]:
    """Map a half-complex array of RELION (32-bit MRC, x = n/2 + 1); read_map would ask for a voxel size.

    Raises
    ------
    InputError
        Where the file is missing, cut short, or something else.
    """
    try:
        header = np.fromfile(path, dtype="<i4", count=24)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if len(header) < 24 or header[3] != 2 or not 0 < header[0] <= header[1] == header[2]:
        raise InputError(f"{path}: not an array of RELION's external reconstruction")
    nx, ny, nz = (int(v) for v in header[:3])
    offset = _HEADER_BYTES + int(header[23])
    if path.stat().st_size < offset + 4 * nx * ny * nz:
        raise InputError(f"{path}: the file is truncated")
    return np.memmap(path, dtype="<f4", mode="r", offset=offset, shape=(nz, ny, nx))
