"""Find the maps of an experiment: the classes of a RELION or cryoSPARC job, a cryoDRGN ensemble, or files.

Nothing but names, STAR files, text files and the headers of maps is read, and nothing is unpickled. Classes
that occupy drew towards each other in RELION's loop are found as their unregularised maps, made where
they are missing.
"""

from __future__ import annotations

import glob
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from occupy.errors import InputError, Notice
from occupy.io.atomic import read_errors
from occupy.io.cryosparc import particles_by_class
from occupy.io.loop import with_unregularised
from occupy.io.mapset import (
    ClassMap,
    MapSet,
    check_map,
    is_map,
    is_stack,
    maps_in,
    natural,
    some_of,
)
from occupy.io.mrc import SUFFIXES, map_stem
from occupy.io.particles import read_integers
from occupy.io.relion_job import relion_folder, relion_star

__all__ = ["ClassMap", "MapSet", "find_set"]

_HALF_OR_MASK = re.compile(r"(?:^|[_\-.])(?:half|mask)", re.I)


def find_set(inputs: Sequence[str | Path], *, count_particles: bool = False) -> MapSet:
    """Find the maps that an input stands for.

    Parameters
    ----------
    inputs : sequence of path-like
        One of: a RELION ``*_model.star`` or ``*_optimiser.star``; a RELION Class3D or cryoSPARC job folder; a
        cryoDRGN analyze or landscape folder; a RECOVAR result or analysis folder; a folder of frames along
        one axis (3D Variability, 3D Flex, cryoSTAR); a folder of maps; or any number of maps. Patterns with
        ``*``, ``?`` and ``[]`` are expanded. Maps are ordered naturally (vol_2 before vol_10).
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
    return with_unregularised(MapSet.of("files", source, paths, numbers, notices=notices))


def _folder(folder: Path, count_particles: bool) -> MapSet:
    """Tell what kind of folder this is, and find its maps."""
    with read_errors(folder):
        names = sorted(path.name for path in folder.iterdir())
    if any(name.endswith("_model.star") for name in names):
        return relion_folder(folder, count_particles)
    for find in (_recovar_folder, _series_folder, _cryodrgn_folder, _cryosparc_folder):
        if (found := find(folder)) is not None:
            return found
    maps = maps_in(folder)
    if not maps:
        raise InputError(f"{folder}: no maps here ({_contents(folder, names)})")
    return _without_halves(folder, maps)


def _without_halves(folder: Path, maps: Sequence[Path]) -> MapSet:
    """Leave out half-maps and masks, unless there is nothing else."""
    left = [path for path in maps if _HALF_OR_MASK.search(path.name)]
    kept = [path for path in maps if path not in left]
    if not left or not kept:
        return _set_of_files(maps, folder)
    text = f"{folder}: left out as half-maps or masks: {some_of(path.name for path in left)}"
    return _set_of_files(kept, folder, [Notice("left-out", text)])


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


_CLASS = re.compile(
    r"(?P<root>.*?)(?:_(?P<before>\d+))?_(?:class|cluster)_(?P<number>\d+)(?P<rest>_.*volume.*)", re.I
)
_REFINED = re.compile(r"(?P<root>(?:.*_)?J\d+)(?P<rest>_(?:.*_)?volume.*)", re.I)
_NOT_A_VOLUME = re.compile(r"mask|half|sharp|locres|fsc|precision", re.I)
_KMEANS = re.compile(r"kmeans(\d+)")
_RUN = re.compile(r"(?:analyze|landscape)\.(\d+)")
_VOLUME = re.compile(r"vol_(\d+)")
_STATE = re.compile(r"state_(\d+)_mean")
# Of RECOVAR: the centres of its clusters (vol0000 in older ones), or the states along a trajectory;
# half-maps lie beside them.
_CENTRE = re.compile(r"(?:center|state)(\d+)")
_OLD_CENTRE = re.compile(r"vol(\d+)")
_RECOVAR_LABELS = "kmeans_result.pkl"
# Frames along one axis: of 3D Variability Display and 3D Flex Generator, and of cryoSTAR.
_FRAME = re.compile(r"(.*(?:series|component)_\d+)_frame_(\d+)", re.I)
_ALONG = re.compile(r"(vol_pca_\d+)_(\d+)")
# cryoSTAR's evaluations: epoch and step.
_EVALUATION = re.compile(r"\d+_\d{5,}")
# Text files with one row per volume; labels.txt has one row per particle.
_ROWS = ("centers_ind.txt", "centers.txt", "z_values.txt")


# --- cryoSPARC ----------------------------------------------------------------------------------------


class _Found(NamedTuple):
    root: str
    iteration: float  # infinite for the final one
    number: int
    rest: str
    path: Path


def _parse(path: Path, pattern: re.Pattern[str]) -> _Found | None:
    """Take a name apart; None where it is not that of a volume."""
    match = pattern.fullmatch(map_stem(path))
    if match is None or _NOT_A_VOLUME.search(match["rest"]):
        return None
    groups = match.groupdict()
    after = re.match(r"_(\d+|final)(?=_)", match["rest"], re.I)
    rest = match["rest"][after.end() :] if after else match["rest"]
    steps = [s for s in (groups.get("before"), after and after[1]) if s and s.isdecimal()]
    return _Found(
        match["root"], float(steps[0]) if steps else math.inf, int(groups.get("number") or 0), rest, path
    )


def _cryosparc_folder(folder: Path) -> MapSet | None:
    """Find the volumes of a cryoSPARC job: its classes, else the refined ones; None where it is none."""
    paths = maps_in(folder)
    classes = [found for path in paths if (found := _parse(path, _CLASS))]
    if not classes:
        return _refined(folder, [found for path in paths if (found := _parse(path, _REFINED))])
    roots = sorted({found.root for found in classes})
    if len(roots) > 1:
        raise InputError(
            f"{folder}: classes of more than one job ({some_of(roots)}); give the maps of one, "
            f"for example '{folder / roots[0]}_class_*_volume.mrc'"
        )
    return _last_complete(folder, classes)


def _last_complete(folder: Path, classes: Sequence[_Found]) -> MapSet:
    """Take the classes of the last iteration that has all of them."""
    numbers = sorted({found.number for found in classes})
    refused: list[str] = []
    for iteration in sorted({found.iteration for found in classes}, reverse=True):
        chosen = _of_iteration(classes, iteration)
        reason = _why_incomplete(chosen, numbers)
        if reason is not None:
            refused.append(reason)
            continue
        notices = [f"a later iteration is left out: {text}" for text in refused[:1]]
        return MapSet.of(
            "cryosparc",
            folder,
            [chosen[number].path for number in numbers],
            numbers,
            iteration=None if math.isinf(iteration) else int(iteration),
            base=numbers[0] if numbers[0] in (0, 1) else None,
            notices=[Notice("incomplete-iteration", text) for text in notices],
            counts=particles_by_class(folder),
        )
    raise InputError(f"{folder}: no iteration with all {len(numbers)} classes: {refused[0]}")


def _of_iteration(classes: Sequence[_Found], iteration: float) -> dict[int, _Found]:
    """Return one volume per class, that with the plainest name where there are variants."""
    chosen: dict[int, _Found] = {}
    for found in sorted(classes, key=lambda found: (len(found.rest), natural(found.path))):
        if found.iteration == iteration:
            chosen.setdefault(found.number, found)
    return chosen


def _why_incomplete(chosen: dict[int, _Found], numbers: Sequence[int]) -> str | None:
    missing = [str(number) for number in numbers if number not in chosen]
    if missing:
        known = next(iter(chosen.values())).path.name
        return f"beside {known} there is no class {some_of(missing)}"
    try:
        for found in chosen.values():
            check_map(found.path)
    except InputError as error:
        return str(error)
    return None


def _refined(folder: Path, volumes: Sequence[_Found]) -> MapSet | None:
    """Take the last volume of each job."""
    if not volumes:
        return None
    last: dict[str, Path] = {}
    for found in sorted(volumes, key=lambda found: (found.iteration, -len(found.rest))):
        last[found.root] = found.path
    paths = sorted(last.values(), key=natural)
    return MapSet.of("cryosparc", folder, paths, [None] * len(paths))


# --- RECOVAR ------------------------------------------------------------------------------------------


def _recovar_folder(folder: Path) -> MapSet | None:
    """Find the volumes of a RECOVAR analysis; None where it is none.

    ``folder`` is its result folder, ``analysis_N``, or the folder ``kmeans`` or ``trajNNN`` in that. Of a
    whole analysis the centres of the clusters are meant.
    """
    inside = sorted((*folder.glob("kmeans"), *folder.glob("*analysis_*/kmeans")), key=natural)
    choice = [path for path in (folder, *inside) if len(_centres(path)) > 1]
    if len(choice) > 1:
        raise InputError(
            f"{folder}: volumes in {some_of(str(p.relative_to(folder)) for p in choice)}: name one"
        )
    if not choice:
        return None
    found = _centres(choice[0])
    numbers = [number for number, _ in found]
    counts, notices = _of_centres(choice[0], len(found)) if choice[0].name == "kmeans" else ({}, [])
    paths = [path for _, path in found]
    return MapSet.of("recovar", choice[0], paths, numbers, base=0, notices=notices, counts=counts)


def _centres(folder: Path) -> list[tuple[int, Path]]:
    old = folder.name == "kmeans" and not _numbered(folder, _CENTRE)
    return _numbered(folder, _OLD_CENTRE if old else _CENTRE)


def _of_centres(kmeans: Path, clusters: int) -> tuple[dict[int, int], list[Notice]]:
    """Count the particles of each cluster, from the labels beside the centres' folder."""
    places = (kmeans.parent / "data" / _RECOVAR_LABELS, kmeans.parent / _RECOVAR_LABELS)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return {}, []
    try:
        labels = read_integers(path)
    except InputError as error:
        return {}, [Notice("no-shares", f"all volumes are given the same share: {error}")]
    # Negative labels pad arrays of older versions: they are no particles.
    counts = Counter(labels[labels >= 0].tolist())
    if counts and max(counts) >= clusters:
        text = f"{path}: it has {max(counts) + 1} clusters, but there are {clusters} volumes: shares not used"
        return {}, [Notice("no-shares", text)]
    return {number: counts[number] for number in range(clusters)}, []


# --- frames along an axis -----------------------------------------------------------------------------


def _series_folder(folder: Path) -> MapSet | None:
    """Find the frames along one axis of 3D Variability, 3D Flex or cryoSTAR; None where there are none.

    ``folder`` is cryoSPARC's job, in which each series has a folder, or one of these; cryoSTAR's
    ``density_NAME``, of whose evaluations the last is meant, or one of these. No share of particles belongs
    to a frame.
    """
    inside = sorted((path for path in folder.iterdir() if path.is_dir()), key=natural)
    evaluated = [path for path in inside if _EVALUATION.fullmatch(path.name) and _series([path], _ALONG)]
    return _one_series("cryosparc", folder, _series([folder, *inside], _FRAME)) or _one_series(
        "cryostar", folder, _series([folder, *evaluated[-1:]], _ALONG)
    )


def _one_series(
    kind: Literal["cryosparc", "cryostar"], folder: Path, series: dict[Path, list[tuple[int, Path]]]
) -> MapSet | None:
    """Return the only series as a set; InputError where there are several."""
    if not series:
        return None
    name, maps = next(iter(series.items()))
    if len(series) > 1:
        raise InputError(
            f"{folder}: {len(series)} series ({some_of(path.name for path in series)}): name one, for "
            f"example '{name}_*'"
        )
    numbers, paths = zip(*sorted(maps), strict=True)
    return MapSet.of(kind, name.parent, paths, numbers, base=0 if numbers[0] == 0 else None)


def _series(folders: Sequence[Path], pattern: re.Pattern[str]) -> dict[Path, list[tuple[int, Path]]]:
    """Return the frames of each series in folders: beginning of their names → numbers and files."""
    found: dict[Path, list[tuple[int, Path]]] = {}
    for path in (path for folder in folders for path in maps_in(folder)):
        if match := pattern.fullmatch(map_stem(path)):
            found.setdefault(path.parent / match[1], []).append((int(match[2]), path))
    return found


# --- cryoDRGN -----------------------------------------------------------------------------------------


def _cryodrgn_folder(folder: Path) -> MapSet | None:
    """Find the volumes of a cryoDRGN analysis; None where it is none.

    ``folder`` is ``analyze.N`` or ``landscape.N``, or one of the folders in it that hold volumes. The mean
    maps of the states of a landscape come before the volumes they were made of.
    """
    if _numbered(folder, _STATE):
        return _ensemble(folder, _STATE)
    if _numbered(folder, _VOLUME) and _is_analysis(folder):
        return _ensemble(folder, _VOLUME)
    return _inside_analysis(folder)


def _inside_analysis(folder: Path) -> MapSet | None:
    """Take the one folder within an analysis that holds volumes."""
    inside = sorted((path for path in folder.iterdir() if path.is_dir()), key=natural)
    states = [path for path in inside if _numbered(path, _STATE)]
    choice = states or [path for path in inside if _KMEANS.fullmatch(path.name) and _numbered(path, _VOLUME)]
    if len(choice) > 1:
        raise InputError(
            f"{folder}: volumes in {some_of(path.name for path in choice)}: name one of these folders"
        )
    return _ensemble(choice[0], _STATE if states else _VOLUME) if choice else None


def _is_analysis(folder: Path) -> bool:
    """Tell by its name, or by the text files beside volumes, whether cryoDRGN made a folder."""
    marks = (*_ROWS, "labels.txt", "labels.pkl")
    named = _KMEANS.fullmatch(folder.resolve().name)
    return bool(named) or any((folder / mark).is_file() for mark in marks)


def _numbered(folder: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    try:
        matches = ((pattern.fullmatch(map_stem(path)), path) for path in maps_in(folder))
    except OSError:  # a folder that may not be read
        return []
    return sorted((int(match[1]), path) for match, path in matches if match)


def _ensemble(folder: Path, pattern: re.Pattern[str]) -> MapSet:
    found = _numbered(folder, pattern)
    numbers = [number for number, _ in found]
    rows = _row_count(folder) if pattern is _VOLUME else None
    base, notices = _base(folder, numbers, rows)
    run = next((m for name in folder.resolve().parts[::-1] if (m := _RUN.fullmatch(name))), None)
    return MapSet.of(
        "cryodrgn",
        folder,
        [path for _, path in found],
        numbers,
        iteration=int(run[1]) if run else None,
        base=base,
        notices=notices,
    )


def _row_count(folder: Path) -> int | None:
    """Return how many volumes the analysis made: from its text files, else from the folder's name."""
    for name in _ROWS:
        lines = _lines(folder / name)
        if lines:
            return len(lines)
    labels = set(_lines(folder / "labels.txt"))
    named = _KMEANS.fullmatch(folder.resolve().name)
    return len(labels) or (int(named[1]) if named else None)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _base(folder: Path, numbers: Sequence[int], rows: int | None) -> tuple[int | None, list[Notice]]:
    """Tell whether volumes are counted from 0 or 1 (cryoDRGN changed that in 3.5.0), and doubt it where due.

    Number 0 exists only where one counts from 0, and the number of volumes only where one counts from 1.
    Where neither is there, only a row without gaps and of unknown length is taken to begin with 1.
    """
    low, high = min(numbers), max(numbers)
    if rows is not None and (max(len(numbers), high) > rows or (low, high) == (0, rows)):
        text = f"{folder}: {len(numbers)} volumes, the last {high}, of {rows}: a mixture of two analyses?"
        return None, [Notice("numbering", text)]
    notices = []
    if rows is not None and len(numbers) < rows:
        notices.append(Notice("missing-volumes", f"{folder}: {len(numbers)} of {rows} volumes are there"))
    if low == 0:
        return 0, notices
    if high == rows or (rows is None and (low, high) == (1, len(numbers))):
        return 1, notices
    text = f"{folder}: it cannot be told whether volumes are numbered from 0 or from 1"
    return None, [*notices, Notice("numbering", text)]
