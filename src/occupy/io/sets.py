"""Find the maps of an experiment: the classes of a RELION or cryoSPARC job, a cryoDRGN ensemble, or files.

Nothing but names, STAR files, text files and the headers of maps is read, and nothing is unpickled. Classes
that occupy drew towards each other in RELION's loop are found as their unregularised maps, made where
they are missing.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from occupy.errors import InputError, Notice
from occupy.io.loop import with_unregularised
from occupy.io.mapset import (
    ClassMap,
    MapSet,
    is_map,
    is_stack,
    make_set,
    maps_in,
    natural,
    some_of,
)
from occupy.io.mrc import SUFFIXES, map_stem
from occupy.io.relion_job import relion_folder, relion_star
from occupy.io.volume_jobs import cryodrgn_folder, cryosparc_folder

__all__ = ["ClassMap", "MapSet", "find_set"]

_HALF_OR_MASK = re.compile(r"(?:^|[_\-.])(?:half|mask)", re.I)


def find_set(inputs: Sequence[str | Path], *, count_particles: bool = False) -> MapSet:
    """Find the maps that an input stands for.

    Parameters
    ----------
    inputs : sequence of path-like
        One of: a RELION ``*_model.star`` or ``*_optimiser.star``; a RELION Class3D or cryoSPARC job folder; a
        cryoDRGN analyze or landscape folder; a folder of maps; or any number of maps. Patterns with ``*``,
        ``?`` and ``[]`` are expanded. Maps are ordered naturally (vol_2 before vol_10).
    count_particles : bool
        Also count the particles of each class (RELION): this reads the data.star.

    Returns
    -------
    MapSet
        At least two maps, all present and none shorter than its header says.

    Raises
    ------
    InputError
        Where there is nothing, one map only, or something that fits none of these.
    """
    paths = _expand([inputs] if isinstance(inputs, (str, Path)) else inputs)
    if len(paths) > 1:
        return _files(paths)
    if paths[0].is_dir():
        return _folder(paths[0], count_particles)
    if paths[0].name.lower().endswith(".star"):
        return relion_star(paths[0], count_particles)
    return _files(paths)


def _expand(inputs: Sequence[str | Path]) -> list[Path]:
    """Expand patterns; every path returned exists and none comes twice."""
    if not inputs:
        raise InputError("no input: name a job folder, a model.star, or several maps")
    found: list[Path] = []
    missing = []
    for text in inputs:
        path = Path(text)
        if path.exists():
            found.append(path)
        elif glob.has_magic(str(text)):
            # Path.glob takes no absolute patterns.
            matches = [Path(name) for name in glob.glob(str(text), recursive=True)]  # noqa: PTH207
            if not matches:
                raise InputError(f"no file matches {str(text)!r}")
            found += matches
        else:
            missing.append(str(text))
    if missing:
        more = f" (and {len(missing) - 3} more)" if len(missing) > 3 else ""
        raise InputError(f"no such file or folder: {', '.join(missing[:3])}{more}")
    unique = {path.resolve(): path for path in reversed(found)}
    return sorted(unique.values(), key=natural)


def _files(paths: Sequence[Path]) -> MapSet:
    for what, wrong in (
        ("a folder", [p for p in paths if p.is_dir()]),
        ("a STAR file", [p for p in paths if p.name.lower().endswith(".star")]),
        ("a stack of images", [p for p in paths if is_stack(p)]),
        ("not a map", [p for p in paths if not is_map(p)]),
    ):
        if wrong:
            others = f" (among {len(paths)} inputs)" if len(paths) > 1 else ""
            raise InputError(
                f"{wrong[0]} is {what}{others}: give either one job folder or model.star, or maps only "
                f"({', '.join(SUFFIXES)}, also with .gz or .bz2)"
            )
    return _set_of_files(paths, Path(os.path.commonpath([p.absolute().parent for p in paths])))


def _set_of_files(paths: Sequence[Path], source: Path, notices: Sequence[Notice] = ()) -> MapSet:
    numbers: list[int | None] = [None] * len(paths)
    stems = [map_stem(path) for path in paths]
    matches = [re.fullmatch(r"(.*?)(\d+)(\D*)", stem) for stem in stems]
    if len({(m[1], m[3]) if m else None for m in matches}) == 1 and len(set(stems)) == len(stems):
        numbers = [int(m[2]) if m else None for m in matches]
    return with_unregularised(make_set("files", source, paths, numbers, notices=notices))


def _folder(folder: Path, count_particles: bool) -> MapSet:
    """Tell what kind of folder this is, and find its maps."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if any(name.endswith("_model.star") for name in names):
        return relion_folder(folder, count_particles)
    found = cryodrgn_folder(folder) or cryosparc_folder(folder)
    if found is not None:
        return found
    maps = maps_in(folder)
    if maps:
        left = [path for path in maps if _HALF_OR_MASK.search(path.name)]
        kept = [path for path in maps if path not in left] or maps
        notices = []
        if left and kept is not maps:
            text = f"{folder}: left out as half-maps or masks: {some_of(path.name for path in left)}"
            notices.append(Notice("left-out", text))
        return _set_of_files(kept, folder, notices)
    raise InputError(f"{folder}: no maps here ({_contents(folder, names)})")


def _contents(folder: Path, names: Sequence[str]) -> str:
    """Say what a folder without maps holds, and what to give instead."""
    jobs = [path for path in sorted(folder.glob("Class3D/job*"), key=natural) if path.is_dir()]
    if jobs:
        return f"it is a RELION project; name a job, for example {jobs[-1]}"
    if any(name.endswith(".zip") for name in names):
        return "unpack the .zip file and give the folder with the maps"
    if not names:
        return "the folder is empty"
    return f"it holds {some_of(names)}; name a job folder, a model.star, or several maps"
