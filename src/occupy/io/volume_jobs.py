"""How cryoSPARC and cryoDRGN lay out the volumes of a job."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from occupy.errors import InputError, Notice
from occupy.io.mapset import MapSet, check_map, make_set, maps_in, natural, some_of
from occupy.io.mrc import map_stem

_CLASS = re.compile(r"(?P<root>.*?)(?:_(?P<before>\d+))?_class_(?P<number>\d+)(?P<rest>_.*volume.*)", re.I)
_REFINED = re.compile(r"(?P<root>(?:.*_)?J\d+)(?P<rest>_(?:.*_)?volume.*)", re.I)
_NOT_A_VOLUME = re.compile(r"mask|half|sharp|locres|fsc|precision", re.I)
_KMEANS = re.compile(r"kmeans(\d+)")
_RUN = re.compile(r"(?:analyze|landscape)\.(\d+)")
_VOLUME = re.compile(r"vol_(\d+)")
_STATE = re.compile(r"state_(\d+)_mean")
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


def cryosparc_folder(folder: Path) -> MapSet | None:
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
    numbers = sorted({found.number for found in classes})
    refused: list[str] = []
    for iteration in sorted({found.iteration for found in classes}, reverse=True):
        chosen = _of_iteration(classes, iteration)
        reason = _why_incomplete(chosen, numbers)
        if reason is None:
            notices = (
                [Notice("incomplete-iteration", f"a later iteration is left out: {refused[0]}")]
                if refused
                else []
            )
            return make_set(
                "cryosparc",
                folder,
                [chosen[number].path for number in numbers],
                numbers,
                iteration=None if math.isinf(iteration) else int(iteration),
                base=numbers[0] if numbers[0] in (0, 1) else None,
                notices=notices,
            )
        refused.append(reason)
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
    return make_set("cryosparc", folder, paths, [None] * len(paths))


# --- cryoDRGN -----------------------------------------------------------------------------------------


def cryodrgn_folder(folder: Path) -> MapSet | None:
    """Find the volumes of a cryoDRGN analysis; None where it is none.

    ``folder`` is ``analyze.N`` or ``landscape.N``, or one of the folders in it that hold volumes. The mean
    maps of the states of a landscape come before the volumes they were made of.
    """
    if _numbered(folder, _STATE):
        return _ensemble(folder, _STATE)
    marks = (*_ROWS, "labels.txt", "labels.pkl")
    if _numbered(folder, _VOLUME) and (
        _KMEANS.fullmatch(folder.resolve().name) or any((folder / mark).is_file() for mark in marks)
    ):
        return _ensemble(folder, _VOLUME)
    inside = sorted((path for path in folder.iterdir() if path.is_dir()), key=natural)
    states = [path for path in inside if _numbered(path, _STATE)]
    volumes = [path for path in inside if _KMEANS.fullmatch(path.name) and _numbered(path, _VOLUME)]
    choice = states or volumes
    if len(choice) > 1:
        raise InputError(
            f"{folder}: volumes in {some_of(path.name for path in choice)}: name one of these folders"
        )
    return _ensemble(choice[0], _STATE if states else _VOLUME) if choice else None


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
    return make_set(
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
    if rows is not None and (len(numbers) > rows or high > rows or (low == 0 and high == rows)):
        text = f"{folder}: {len(numbers)} volumes, the last {high}, of {rows}: a mixture of two analyses?"
        return None, [Notice("numbering", text)]
    notices = []
    if rows is not None and len(numbers) < rows:
        notices.append(Notice("missing-volumes", f"{folder}: {len(numbers)} of {rows} volumes are there"))
    if low == 0:
        return 0, notices
    if rows is not None and high == rows:
        return 1, notices
    if rows is None and low == 1 and high == len(numbers):
        return 1, notices
    text = f"{folder}: it cannot be told whether volumes are numbered from 0 or from 1"
    return None, [*notices, Notice("numbering", text)]
