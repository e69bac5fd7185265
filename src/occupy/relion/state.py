"""What earlier calls left for later ones, in the job's folder."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.atomic import atomic_file, make_folder
from occupy.relion.separation import ClassMap

KEPT_ITERATIONS = 3
"""Earlier iterations of a class that stay on disk, for runs that are continued."""

_NAME = re.compile(r"half(\d)_class(\d+)_it(\d+)\.npz")


@dataclass(frozen=True)
class Stored:
    """A class as a call left it.

    Attributes
    ----------
    iteration, number : int
        Iteration and class.
    map : ClassMap
        As RELION reconstructed it, before anything of ours.
    box : int
        Of RELION's map.
    """

    iteration: int
    number: int
    map: ClassMap
    box: int


def store(folder: Path, half: int, one: Stored) -> None:
    """Keep a class for later calls, atomically, and drop what no call can need any more."""
    make_folder(folder)
    target = folder / f"half{half}_class{one.number:03d}_it{one.iteration:03d}.npz"
    with atomic_file(target) as part, part.open("wb") as stream:
        np.savez(
            stream,
            spectrum=one.map.spectrum,
            weight=one.map.weight,
            factor=one.map.factor,
            box=np.array(one.box),
            checksum=np.array(_checksum(one)),
        )
    for path, found_half, number, iteration in _files(folder):
        old = iteration <= one.iteration - KEPT_ITERATIONS
        if found_half == half and number == one.number and (old or iteration > one.iteration):
            with suppress(OSError):
                path.unlink()


def previous(folder: Path, half: int, iteration: int, box: int) -> tuple[Stored, ...]:
    """Return all classes of the latest earlier iteration that is on disk.

    Every class of an iteration is compared with this one set, so that none has a better reference than
    another: RELION reconstructs classes one after the other, and the last would know most. Later iterations
    were left by a run that was since continued from an earlier one. A file that is damaged, or was changed
    since it was written, counts as missing.
    """
    files = [(when, number, path) for path, h, number, when in _files(folder) if h == half]
    earlier = [when for when, _, _ in files if iteration - KEPT_ITERATIONS <= when < iteration]
    if not earlier:
        return ()
    latest = max(earlier)
    loaded = (_load(path, number, when) for when, number, path in sorted(files) if when == latest)
    return tuple(one for one in loaded if one is not None and one.box == box)


def _files(folder: Path) -> list[tuple[Path, int, int, int]]:
    if not folder.is_dir():
        return []
    matches = ((path, _NAME.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return [(path, int(m[1]), int(m[2]), int(m[3])) for path, m in matches if m]


def _load(path: Path, number: int, iteration: int) -> Stored | None:
    try:
        with path.open("rb") as stream, np.load(stream) as data:
            one = ClassMap(data["spectrum"], data["weight"], data["factor"])
            found = Stored(iteration, number, one, int(data["box"]))
            return found if str(data["checksum"]) == _checksum(found) else None
    except (OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        return None


def _checksum(one: Stored) -> str:
    """Return a digest of a class, of which call it is included."""
    found = hashlib.sha256(f"{one.iteration} {one.number} {one.box}".encode())
    for array in (one.map.spectrum, one.map.weight, one.map.factor):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def common_shells(maps: list[ClassMap]) -> list[ClassMap]:
    """Bring classes to the same number of shells: RELION's current size may have changed between calls.

    Shells that a class has no data for get no weight.
    """
    most = max((len(one.weight) for one in maps), default=0)
    if not most:
        raise InputError("no class has data")
    return [ClassMap(one.spectrum, _fill(one.weight, most), _fill(one.factor, most)) for one in maps]


def _fill(values: npt.NDArray[np.float32], length: int) -> npt.NDArray[np.float32]:
    return np.pad(values, (0, length - len(values)))
