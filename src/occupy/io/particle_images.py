"""Images at known poses: RELION's particle STAR files, cryoSPARC's .cs files, and the stacks they name.

Finished pieces of a run over them are kept until it is done.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.errors import InputError, Notice
from occupy.io.atomic import atomic_file, explain, make_folder
from occupy.io.cryosparc import read_structured
from occupy.io.mrc import read_header
from occupy.io.mrc_header import HEADER_BYTES, MapHeader
from occupy.io.star import StarTable, read_star
from occupy.particles.images import Ctf, ParticleImages
from occupy.particles.slices import rotations

_Array = npt.NDArray[np.float64]
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_OPTICS = (
    "rlnImagePixelSize", "rlnImageSize", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast",
)  # fmt: skip
# Column → its value where it is missing; None where it must be there.
_PARTICLE = {"rlnDefocusU": None, "rlnDefocusV": None, "rlnDefocusAngle": None, "rlnPhaseShift": 0.0,
             "rlnCtfBfactor": 0.0}  # fmt: skip
_NOT_APPLIED = ("rlnBeamTiltX", "rlnBeamTiltY", "rlnOddZernike", "rlnEvenZernike")
_COLUMNS = (
    "rlnImageName", "rlnOpticsGroup", *_ANGLES, "rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginX",
    "rlnOriginY", "rlnRandomSubset", *_PARTICLE, *_OPTICS, *_NOT_APPLIED,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Stacks:
    """Images in MRC stacks, read when they are asked for.

    Attributes
    ----------
    paths : tuple of Path
        The stacks.
    stack : ndarray of int64, shape (N,)
        Which of them each image is in.
    index : ndarray of int64, shape (N,)
        Its number there, from 0.
    """

    paths: tuple[Path, ...]
    stack: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    _headers: dict[int, MapHeader] = field(default_factory=dict, repr=False)

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return images of the rows as float32, shape (n, size, size); InputError where there are none."""
        images = [self._stack(int(self.stack[row]))[int(self.index[row])] for row in rows]
        found = np.asarray(images, dtype=np.float32)
        if not np.isfinite(found).all():
            bad = int(np.argmin(np.isfinite(found).all(axis=(1, 2))))
            row = int(rows[bad])
            raise InputError(
                f"{self.paths[self.stack[row]]}: image {self.index[row] + 1} holds values that are not "
                "numbers"
            )
        return found

    def header(self, number: int) -> MapHeader:
        """Header of a stack."""
        if number not in self._headers:
            self._headers[number] = read_header(self.paths[number])
        return self._headers[number]

    def _stack(self, number: int) -> npt.NDArray[Any]:
        header = self.header(number)
        offset = HEADER_BYTES + header.extended_bytes
        return np.memmap(self.paths[number], header.dtype, mode="r", offset=offset, shape=header.shape)


def read_particle_images(
    path: Path, passthrough: Sequence[Path] = ()
) -> tuple[ParticleImages, tuple[Notice, ...]]:
    """Read poses, contrast transfer functions and where the images are.

    Parameters
    ----------
    path : Path
        ``*.star`` of RELION 3.1 to 5, or ``*.cs`` of cryoSPARC.
    passthrough : sequence of Path
        cryoSPARC's passthrough files, where fields are missing in the first; joined by ``uid``.

    Returns
    -------
    images : ParticleImages
    notices : tuple of Notice
        What the file states and the estimator does not apply.

    Raises
    ------
    InputError
        Where poses, defocus, optics or images are missing or make no sense.
    """
    name = path.name.lower()
    if name.endswith(".cs"):
        return _cryosparc(path, passthrough)
    if not name.endswith((".star", ".star.gz")):
        raise InputError(f"{path}: no particles: give RELION's particles.star or cryoSPARC's particles.cs")
    if passthrough:
        raise InputError(f"{path}: --passthrough is for cryoSPARC's .cs files")
    return _relion(path)


def state_of(images: ParticleImages) -> Iterator[npt.NDArray[Any] | str]:
    """Yield all that results depend on: poses, transfer functions, and size and age of the stacks."""
    yield repr((images.size, images.pixel_size))
    yield from (images.matrices, images.shifts, images.group)
    yield from () if images.half is None else (images.half,)
    yield from (getattr(images.ctf, each.name) for each in fields(images.ctf))
    if isinstance(images.source, _Stacks):
        yield from (images.source.stack, images.source.index)
        for path in images.source.paths:
            about = path.stat()
            yield f"{path} {about.st_size} {about.st_mtime_ns}"


# --- RELION -------------------------------------------------------------------------------------------


def _relion(path: Path) -> tuple[ParticleImages, tuple[Notice, ...]]:
    tables = read_star(path, columns=_COLUMNS)
    found = [table for table in tables.values() if table.has("rlnImageName")]
    if len(found) != 1 or not found[0].rows:
        raise InputError(f"{path}: no particles (a table with rlnImageName) in it")
    particles, optics = found[0], tables.get("optics")
    if optics is None or not optics.has("rlnOpticsGroup"):
        raise InputError(
            f"{path}: no optics groups; convert it with RELION 3.1 or later (relion_convert_star)"
        )
    group = _groups(particles, optics)
    pixel, size, voltage, aberration, contrast = (_numbers(optics, name)[group] for name in _OPTICS)
    u, v, angle, phase, b_factor = (_optional(particles, *one) for one in _PARTICLE.items())
    stacks = _stacks(path, _names(particles))
    ctf = Ctf(u, v, angle, voltage, aberration, contrast, phase, b_factor)
    angles = np.stack([_numbers(particles, name) for name in _ANGLES], axis=1)
    images = _checked(path, stacks, size, pixel, rotations(angles), _origins(particles, pixel), ctf, group)
    half = _numbers(particles, "rlnRandomSubset") if particles.has("rlnRandomSubset") else np.zeros(len(u))
    return replace(images, half=_half(half - 1)), _not_applied(path, particles, optics)


def _half(number: _Array) -> npt.NDArray[np.int64] | None:
    """Return which half each image is in, 0 or 1; None where there are not two."""
    return number.astype(np.int64) if set(np.unique(number)) == {0, 1} else None


def _groups(particles: StarTable, optics: StarTable) -> npt.NDArray[np.int64]:
    """Row of the optics table of each particle."""
    rows = {name: row for row, name in enumerate(optics.column("rlnOpticsGroup"))}
    names = particles.column("rlnOpticsGroup")
    missing = next((name for name in names if name not in rows), None)
    if missing is not None:
        raise InputError(f"{particles.source}: optics group {missing} is not in its optics table")
    return np.array([rows[name] for name in names], dtype=np.int64)


def _numbers(table: StarTable, name: str) -> _Array:
    values = np.array(table.numbers(name))
    if not np.isfinite(values).all():
        raise InputError(f"{table.source}: {name} holds values that are not numbers")
    return values


def _optional(table: StarTable, name: str, fallback: float | None) -> _Array:
    """Read a column; where it is missing the fallback, or InputError where there is none."""
    if fallback is None or table.has(name):
        return _numbers(table, name)
    return np.full(len(table.rows), fallback)


def _origins(particles: StarTable, pixel_size: _Array) -> _Array:
    if particles.has("rlnOriginXAngst"):
        return np.stack([_numbers(particles, f"rlnOrigin{axis}Angst") for axis in "XY"], axis=1)
    return np.stack([_optional(particles, f"rlnOrigin{axis}", 0.0) * pixel_size for axis in "XY"], axis=1)


def _names(particles: StarTable) -> list[tuple[str, int]]:
    """Stack and number, from 0, of each image."""
    found = []
    for text in particles.column("rlnImageName"):
        number, _, name = text.partition("@")
        if not name or not number.isdigit() or int(number) < 1:
            raise InputError(f"{particles.source}: rlnImageName should be number@stack, not {text!r}")
        found.append((name, int(number) - 1))
    return found


def _not_applied(path: Path, particles: StarTable, optics: StarTable) -> tuple[Notice, ...]:
    def states(table: StarTable, name: str) -> bool:
        return table.has(name) and any(value.strip("[]0.,-+e ") for value in table.column(name))

    names = [name for name in _NOT_APPLIED if any(states(table, name) for table in (particles, optics))]
    if not names:
        return ()
    text = f"{path.name} states {', '.join(names)}: not applied, so fine shells tell less than they could"
    return (Notice("aberrations", text),)


# --- cryoSPARC ----------------------------------------------------------------------------------------


def _cryosparc(path: Path, passthrough: Sequence[Path]) -> tuple[ParticleImages, tuple[Notice, ...]]:
    from scipy.spatial.transform import Rotation

    tables = [read_structured(each) for each in (path, *passthrough)]
    rows = [_joined(table, tables[0], each) for table, each in zip(tables, (path, *passthrough), strict=True)]

    def column(name: str, fallback: float | None = None) -> npt.NDArray[Any]:
        for table in rows:
            if name in (table.dtype.names or ()):
                return np.asarray(table[name])
        if fallback is None:
            raise InputError(f"{path}: no field {name}; give the job's passthrough file with --passthrough")
        return np.full(len(rows[0]), fallback)

    names = [each.decode() if isinstance(each, bytes) else str(each) for each in column("blob/path")]
    indices = column("blob/idx").astype(np.int64).tolist()
    stacks = _stacks(path, [(name.lstrip(">"), i) for name, i in zip(names, indices, strict=True)])
    pixel = column("blob/psize_A").astype(np.float64)
    size = column("blob/shape")[:, 0].astype(np.float64)
    ctf = Ctf(
        column("ctf/df1_A"), column("ctf/df2_A"), np.degrees(column("ctf/df_angle_rad")),
        column("ctf/accel_kv"), column("ctf/cs_mm"), column("ctf/amp_contrast"),
        np.degrees(column("ctf/phase_shift_rad", 0.0)), column("ctf/bfactor", 0.0),
    )  # fmt: skip
    # A pose turns the image's frame into the volume's.
    matrices = Rotation.from_rotvec(column("alignments3D/pose").astype(np.float64)).inv().as_matrix()
    scale = column("alignments3D/psize_A").astype(np.float64)
    shifts = column("alignments3D/shift").astype(np.float64) * scale[:, None]
    group = np.unique(column("ctf/exp_group_id", 0.0), return_inverse=True)[1].astype(np.int64)
    images = _checked(path, stacks, size, pixel, matrices, shifts, ctf, group)
    return replace(images, half=_half(column("alignments3D/split", 0.0))), ()


def _joined(table: npt.NDArray[Any], first: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """Rows of a table in the order of the first, by uid."""
    if table is first:
        return table
    if "uid" not in (table.dtype.names or ()) or "uid" not in (first.dtype.names or ()):
        raise InputError(f"{path}: no field uid to join it by")
    order = np.argsort(table["uid"], kind="stable")
    at = np.searchsorted(table["uid"][order], first["uid"])
    at = np.minimum(at, len(order) - 1)
    if not len(order) or not np.array_equal(table["uid"][order][at], first["uid"]):
        raise InputError(f"{path}: particles (uid) of the first file are missing in it")
    return np.asarray(table[order[at]])


# --- both ---------------------------------------------------------------------------------------------


def _stacks(source: Path, names: Sequence[tuple[str, int]]) -> _Stacks:
    unique = list(dict.fromkeys(name for name, _ in names))
    number = {name: i for i, name in enumerate(unique)}
    paths = tuple(_located(source, name) for name in unique)
    stack = np.array([number[name] for name, _ in names], dtype=np.int64)
    return _Stacks(paths, stack, np.array([index for _, index in names], dtype=np.int64))


def _located(source: Path, name: str) -> Path:
    """Find a stack: paths are relative to the project, which is the file's folder or one above it."""
    for folder in source.absolute().parents:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{source}: its stack {name} is neither in its folder nor in one above it")


def _checked(
    path: Path, stacks: _Stacks, size: _Array, pixel: _Array, matrices: _Array, shifts: _Array, ctf: Ctf,
    group: npt.NDArray[np.int64],
) -> ParticleImages:  # fmt: skip
    """Put everything together; InputError where images differ in size or are not there."""
    if np.ptp(size) or np.ptp(pixel) > 1e-4 * pixel[0]:
        raise InputError(f"{path}: images of different sizes or pixel sizes; run each optics group by itself")
    if not 1e-3 < pixel[0] < 1e3:
        raise InputError(f"{path}: a pixel of {pixel[0]:.4g} Å cannot be right")
    for number, stack in enumerate(stacks.paths):
        shape = stacks.header(number).shape
        if shape[1:] != (int(size[0]),) * 2:
            raise InputError(
                f"{stack}: images of {shape[2]} x {shape[1]} pixels, but {path.name} says {size[0]:.0f}"
            )
        last = int(stacks.index[stacks.stack == number].max()) + 1
        if last > shape[0]:
            raise InputError(f"{stack}: {shape[0]} images, but {path.name} names number {last}")
    if not (np.isfinite(matrices).all() and np.isfinite(shifts).all()):
        raise InputError(f"{path}: poses that are not numbers")
    particle = np.unique(np.stack([stacks.stack, stacks.index]), axis=1, return_inverse=True)[1].ravel()
    return ParticleImages(stacks, int(size[0]), float(pixel[0]), matrices, shifts, ctf, group, particle)


_FOLDER = ".occupy-particles"


class FolderStore:
    """Arrays by name in a folder; those of another run, of other inputs or settings, are not seen.

    Parameters
    ----------
    folder : Path
        Of the results; pieces are in a folder in it.
    about : sequence of ndarray and str
        All that the pieces depend on.
    """

    def __init__(self, folder: Path, *about: npt.NDArray[Any] | str) -> None:
        digest = hashlib.sha256(__version__.encode())
        for each in about:
            content = each.encode() if isinstance(each, str) else np.ascontiguousarray(each).tobytes()
            digest.update(f"{len(content)}:".encode())
            digest.update(content)
        self._parent = folder / _FOLDER
        self._folder = self._parent / digest.hexdigest()[:16]
        for other in self._parent.glob("*"):
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        make_folder(self._folder)

    def load(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """Return arrays that were saved under a name, or None where there are none, or damaged ones."""
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, name: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Write arrays; they are all there under the name, or none is."""
        with atomic_file(self._folder / f"{name}.npz") as part:
            try:
                with part.open("wb") as out:
                    np.savez(out, allow_pickle=False, **arrays)
            except OSError as error:
                raise explain(error, self._folder) from error


def forget_pieces(folder: Path) -> None:
    """Remove all pieces from a folder of results: the run is done."""
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)
