"""What a Class3D job with occupy in its loop left: the record of its calls, and maps that tell occupancy.

The maps RELION was given there are drawn towards what all classes share, and RELION's prior shrank them
before: a part that 9 % of a class have does not read 0.09 in them. In the reconstruction without prior, data
over weights, it does.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError, Notice, OccupyError
from occupy.io.exchange import Exchange, half_complex, read_exchange
from occupy.io.mapset import MapSet, check_map
from occupy.io.mrc import read_header, write_map
from occupy.numerics import spectra
from occupy.volume import Volume

FOLDER = "occupy_relion"
"""Folder beside a job's files for what later calls need, and the record."""

RECORD = "calls.jsonl"
SUFFIX = "_unregularised.mrc"
_CLASS = re.compile(r"(?P<stem>.+_it(?P<iteration>\d+)(?:_half[12])?_class(?P<number>\d+))\.mrc")
_EXCHANGE = "_external_reconstruct.star"
_EDGE = 3.0
"""Voxels over which a map falls to 0 at the sphere that fits the box, as RELION's masks do."""


def read_calls(folder: Path) -> list[dict[str, Any]]:
    """Read the record in the folder `FOLDER` of a job; of calls made twice (a continued run) the last counts.

    Raises
    ------
    InputError
        Where there is none.
    """
    path = folder / RECORD
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        reason = (
            "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        raise InputError(f"{path}: {reason}; was RELION run with occupy-relion-reconstruct?") from error
    calls: dict[tuple[int, int, int], dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            # Version 0.1.0 wrote Infinity, which JSON has no word for.
            call = json.loads(line, parse_constant=lambda _: None)
            calls[int(call["iteration"]), int(call["half"]), int(call["class"])] = call
        except (ValueError, KeyError, TypeError):
            continue
    return [calls[key] for key in sorted(calls)]


def separated_iterations(job: Path) -> frozenset[int]:
    """Return the iterations in which a class of a job was drawn towards the others."""
    try:
        calls = read_calls(job / FOLDER)
    except InputError:
        return frozenset()
    return frozenset(int(call["iteration"]) for call in calls if call.get("state") == "separated")


def unregularised_name(path: Path) -> Path:
    """Return where the unregularised map of a class lies, by the name of its map or a call's STAR file."""
    return path.with_name(path.name.removesuffix(".mrc").removesuffix(_EXCHANGE) + SUFFIX)


def reconstruct(call: Exchange) -> npt.NDArray[np.float32]:
    """Reconstruct a class from the data and weights of a call, without RELION's prior.

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
    padding = round(call.padding)
    if padding < 1 or padding != call.padding:
        raise InputError(f"{call.star}: a padding of {call.padding:g}; whole numbers are understood")
    n = min(call.box, spectra.even_size(2 * call.shells + 2))
    m = n * padding
    grids = [half_complex(path) for path in (call.real, call.imaginary, call.weight)]
    if len({grid.shape for grid in grids}) > 1:
        raise InputError(f"{call.star}: data and weights differ in size")
    size = len(grids[0])
    reach = min((call.shells - 1) * padding, (min(m, size) - 1) // 2)
    k, columns = np.arange(-reach, reach + 1), np.arange(reach + 1)
    real, imaginary, weight = (np.asarray(grid[np.ix_(k % size, k % size, columns)]) for grid in grids)
    radius = spectra.shell_numbers(k, columns, padding)
    whole = np.zeros((m, m, m // 2 + 1), dtype=np.complex64)
    data = np.where(radius <= call.shells - 1, real + np.complex64(1j) * imaginary, 0)
    whole[np.ix_(k % m, k % m, columns)] = spectra.divided(data, weight, radius)
    # RELION divides by the box, not by the number of voxels: its projections are normalised as images are.
    whole /= np.float32(call.box * padding**3)
    fine = spectra.map_of(spectra.spectrum_of(spectra.without_gridding(spectra.map_of(whole), n)), call.box)
    return fine * _sphere(call.box)


def _sphere(box: int) -> npt.NDArray[np.float32]:
    x = (np.arange(box) - box // 2).astype(np.float32)
    r = np.sqrt(x[:, None, None] ** 2 + x[None, :, None] ** 2 + x**2)
    return np.asarray(
        0.5 + 0.5 * np.cos(np.pi * np.clip((r - box / 2 + _EDGE) / _EDGE, 0, 1)), dtype=np.float32
    )


def write_unregularised(call: Exchange, voxel_size: float) -> Path:
    """Write the unregularised map of a call's class beside its other files; return its path."""
    path = unregularised_name(call.star)
    volume = Volume.from_array(reconstruct(call), voxel_size)
    write_map(path, volume, "reconstruction without a prior")
    return path


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
    if not any(is_drawn(entry.path) for entry in found.maps):
        return found
    maps = tuple(
        replace(entry, path=_unregularised_map(entry.path), ssnr=None, tau2=None, sigma2=None)
        for entry in found.maps
    )
    for entry in maps:
        check_map(entry.path)
    return replace(found, maps=maps, unregularised=True)


def is_drawn(path: Path) -> bool:
    """Tell whether a map is a class that occupy drew towards the others in RELION's loop."""
    match = _CLASS.fullmatch(path.name)
    if match is None:
        return False
    return unregularised_name(path).is_file() or int(match["iteration"]) in separated_iterations(path.parent)


def drawn_notice(path: Path) -> Notice | None:
    """Return a warning for who is about to estimate one such map by itself; None for other maps."""
    if not is_drawn(path):
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
        call = read_exchange(star) if star.is_file() else None
        # An iteration that was done again has newer weights.
        if target.is_file() and (call is None or not _newer(call.weight, target)):
            return target
        if call is None:
            raise InputError(f"{star.name} is not there")
        return write_unregularised(call, read_header(path).voxel_size(path)[0])
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
