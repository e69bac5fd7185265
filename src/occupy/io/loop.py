"""RELION's loop: the files of a call for one class, the record of calls, and maps that tell occupancy.

The maps RELION was given by occupy are drawn towards what all classes share, and RELION's prior shrank them
before: a part that 9 % of a class have does not read 0.09 in them. In the reconstruction without prior, data
over weights, it does.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError, Notice, OccupyError
from occupy.io.atomic import explain, make_folder, read_errors
from occupy.io.checksum import is_as_written
from occupy.io.mapset import MapSet, check_map
from occupy.io.mrc import read_header, write_map
from occupy.io.mrc_header import HEADER_BYTES
from occupy.io.star import StarTable, read_star
from occupy.numerics import spectra
from occupy.volume import Volume

FOLDER = "occupy_relion"
"""Folder beside a job's files for what later calls need, and the record."""

CALLS = "calls.jsonl"
_SUFFIX = "_unregularised.mrc"
_CLASS = re.compile(r"(?P<stem>(?P<root>.+_it(?P<iteration>\d+))(?:_half[12])?_class(?P<number>\d+))\.mrc")
_EXCHANGE = "_external_reconstruct.star"


def read_calls(folder: Path) -> list[dict[str, Any]]:
    """Read the record in the folder `FOLDER` of a job; of calls made twice (a continued run) the last counts.

    Raises
    ------
    InputError
        Where there is none.
    """
    path = folder / CALLS
    with read_errors(path, suffix="; was RELION run with occupy-relion-reconstruct?"):
        text = path.read_text(encoding="utf-8", errors="replace")
    calls: dict[tuple[int, int, int], dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            # Version 0.1.0 wrote Infinity, which JSON has no word for.
            call = json.loads(line, parse_constant=lambda _: None)
            calls[int(call["iteration"]), int(call["half"]), int(call["class"])] = call
        except (ValueError, KeyError, TypeError):
            continue
    return [calls[key] for key in sorted(calls)]


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        # What a full disk cut short must not swallow the next line.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def _separated_calls(job: Path, iteration: int) -> list[dict[str, Any]]:
    """Return the calls of an iteration that drew a class towards the others."""
    try:
        calls = read_calls(job / FOLDER)
    except InputError:
        return []
    return [c for c in calls if int(c["iteration"]) == iteration and c.get("state") == "separated"]


def unregularised_name(path: Path) -> Path:
    """Return where the unregularised map of a class lies, by the name of its map or a call's STAR file."""
    return path.with_name(path.name.removesuffix(".mrc").removesuffix(_EXCHANGE) + _SUFFIX)


def _sphere(box: int, edge: float = 3.0) -> npt.NDArray[np.float32]:
    """Return 1 within the sphere that fits the box, and less over its edge (voxels), as RELION masks do."""
    x = (np.arange(box) - box // 2).astype(np.float32)
    r = np.sqrt(x[:, None, None] ** 2 + x[None, :, None] ** 2 + x**2)
    beyond = np.clip((r - box / 2 + edge) / edge, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * beyond), dtype=np.float32)


def with_unregularised(found: MapSet) -> MapSet:
    """Put unregularised maps in the place of those that occupy drew towards each other in RELION's loop.

    Maps that are missing are made from the files that RELION and this program exchanged. A set without such
    maps is returned as it is. What RELION says of the shells of a class (the ratios by which it shrank
    the map) is left out: it does not hold for these maps.

    Raises
    ------
    InputError
        Where neither an unregularised map nor what it can be made of is there; it says what to run.
    """
    if not any(_is_drawn(entry.path) for entry in found.maps):
        return found
    maps = tuple(
        replace(entry, path=_unregularised_map(entry.path), ssnr=None, tau2=None, sigma2=None)
        for entry in found.maps
    )
    for entry in maps:
        check_map(entry.path)
    return replace(found, maps=maps, unregularised=True)


def _is_drawn(path: Path) -> bool:
    """Tell whether a map is a class that occupy drew towards the others in RELION's loop.

    A job that was run again in the same folder, without occupy, leaves what occupy wrote before: then RELION
    says that it reconstructed by itself, or the map it was given is not the one occupy recorded.
    """
    match = _CLASS.fullmatch(path.name)
    if match is None or not _was_external(path.with_name(f"{match['root']}_optimiser.star")):
        return False
    calls = _separated_calls(path.parent, int(match["iteration"]))
    of_class = [call for call in calls if int(call["class"]) == int(match["number"])]
    if calls:
        return any(_is_as_recorded(path.parent, call) for call in of_class or calls)
    return unregularised_name(path).is_file()


def _was_external(optimiser: Path) -> bool:
    """Tell whether another program made the maps of an iteration; also where RELION's file does not say."""
    try:
        for table in read_star(optimiser, columns=("rlnDoExternalReconstruct",)).values():
            return any(table.numbers("rlnDoExternalReconstruct"))
    except InputError:
        pass
    return True


def _is_as_recorded(job: Path, call: Mapping[str, Any]) -> bool:
    """Tell whether the map a call gave to RELION is still what the record says; also where nobody knows."""
    try:
        about = call["map"]
        return is_as_written(job / Path(about["file"]).name, about)
    except (OSError, TypeError, KeyError, ValueError):  # no such file any more, or a record of version 0.1
        return True


def drawn_notice(path: Path) -> Notice | None:
    """Return a warning for who is about to estimate one such map by itself; None for other maps."""
    if not _is_drawn(path):
        return None
    text = (
        f"{path.name}: occupy in RELION's loop drew this class towards the others, so its scale tells "
        f"little of occupancy; {unregularised_name(path).name} does, or `occupy classes {path.parent}`"
    )
    return Notice("drawn-class", text)


def _unregularised_map(path: Path) -> Path:
    match = _CLASS.fullmatch(path.name)
    if match is None:
        raise InputError(
            f"{path}: not a class of RELION, while others of this set are: give one or the other"
        )
    target, star = unregularised_name(path), path.with_name(match["stem"] + _EXCHANGE)
    try:
        call = ReconstructionCall.read(star) if star.is_file() else None
        # An iteration that was done again has newer weights.
        if target.is_file() and (call is None or not _newer(call.weight, target)):
            return target
        if call is None:
            raise InputError(f"{star.name} is not there")
        return call.write_unregularised(read_header(path).voxel_size(path)[0])
    except (OccupyError, OSError) as error:
        data = f"{match['stem'].rpartition('_class')[0]}_data.star"
        raise InputError(
            f"{path}: occupy in RELION's loop drew this class towards the others: occupancy cannot be read "
            f"in it, and its unregularised map cannot be made ({error}); run, for every class, for example "
            f"relion_reconstruct --i {path.with_name(data)} --class {int(match['number'])} --ctf "
            f"--o {target}"
        ) from error


def _newer(path: Path, than: Path) -> bool:
    try:
        return path.stat().st_mtime_ns > than.stat().st_mtime_ns
    except OSError:
        return False


_NAME = re.compile(
    r"(?P<root>.*?)(?:_it(?P<iteration>\d+))?(?:_half(?P<half>[12]))?_class(?P<number>\d+)_external_reconstruct\.star"
)


@dataclass(frozen=True)
class ReconstructionCall:
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

    def record(self, values: dict[str, Any]) -> None:
        """Append one line to the job's record; lines of concurrent calls do not mix.

        Raises
        ------
        OutputError
            Where the line could not be written whole.
        """
        head = {"iteration": self.iteration, "half": self.half, "class": self.number}
        # JSON has no word for NaN and infinity.
        plain = json.loads(json.dumps(head | values), parse_constant=lambda _: None)
        path = make_folder(self.star.parent / FOLDER) / CALLS
        try:
            _append(path, json.dumps(plain).encode() + b"\n")
        except OSError as error:
            raise explain(error, path) from error

    def reconstruct(self) -> npt.NDArray[np.float32]:
        """Reconstruct the class from the data and weights of the call, without RELION's prior.

        Returns
        -------
        ndarray of float32, shape (box, box, box)
            On RELION's grey scale; 0 beyond the sphere that fits the box. It holds the shells below RELION's
            current size, and nothing finer.

        Raises
        ------
        InputError
            Where the files are missing or damaged, or the padding is no whole number.
        """
        padding = round(self.padding)
        if padding < 1 or padding != self.padding:
            raise InputError(f"{self.star}: a padding of {self.padding:g}; whole numbers are understood")
        n = min(self.box, spectra.even_size(2 * self.shells + 2))
        m = n * padding
        grids = [half_complex(path) for path in (self.real, self.imaginary, self.weight)]
        if len({grid.shape for grid in grids}) > 1:
            raise InputError(f"{self.star}: data and weights differ in size")
        size = len(grids[0])
        reach = min((self.shells - 1) * padding, (min(m, size) - 1) // 2)
        k, columns = np.arange(-reach, reach + 1), np.arange(reach + 1)
        real, imaginary, weight = (np.asarray(grid[np.ix_(k % size, k % size, columns)]) for grid in grids)
        radius = spectra.shell_numbers(k, columns, padding)
        whole = np.zeros((m, m, m // 2 + 1), dtype=np.complex64)
        data = np.where(radius <= self.shells - 1, real + np.complex64(1j) * imaginary, 0)
        whole[np.ix_(k % m, k % m, columns)] = spectra.divided(data, weight, radius)
        # RELION divides by the box, not by the number of voxels: its projections are normalised like images.
        whole /= np.float32(self.box * padding**3)
        coarse = spectra.without_gridding(spectra.map_of(whole), n)
        fine = spectra.map_of(spectra.spectrum_of(coarse), self.box)
        return fine * _sphere(self.box)

    def write_unregularised(self, voxel_size: float) -> Path:
        """Write the unregularised map of the class beside its other files; return its path."""
        path = unregularised_name(self.star)
        write_map(path, Volume.from_array(self.reconstruct(), voxel_size), "reconstruction without a prior")
        return path

    @classmethod
    def read(cls, path: str | Path) -> ReconstructionCall:
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
        return cls(
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
    with read_errors(path):
        header = np.fromfile(path, dtype="<i4", count=24)
    if len(header) < 24 or header[3] != 2 or not 0 < header[0] <= header[1] == header[2]:
        raise InputError(f"{path}: not an array of RELION's external reconstruction")
    nx, ny, nz = (int(v) for v in header[:3])
    offset = HEADER_BYTES + int(header[23])
    if path.stat().st_size < offset + 4 * nx * ny * nz:
        raise InputError(f"{path}: the file is truncated")
    return np.memmap(path, dtype="<f4", mode="r", offset=offset, shape=(nz, ny, nx))
