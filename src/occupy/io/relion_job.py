"""How RELION 3.0 to 5 lays out the classes of a Class3D job, finished or still running."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from occupy.errors import InputError, Notice
from occupy.io.atomic import is_file
from occupy.io.loop import with_unregularised
from occupy.io.mapset import ClassMap, MapSet, make_set, natural
from occupy.io.star import StarTable, read_star

_MODEL = re.compile(r"(.+_it)(\d+)_model\.star")
_ANY_ITERATION = re.compile(r".+_it(\d+)_(?:class\d+|model|data|optimiser)\b.*")
# RELION writes 999 Å for no resolution.
_NO_RESOLUTION = 999.0


def relion_star(path: Path, count_particles: bool) -> MapSet:
    """Read a model.star, or the one that an optimiser.star points to."""
    tables = read_star(path)
    if "model_general" in tables:
        return _model_set(path, tables, None, count_particles)
    optimiser = tables.get("optimiser_general")
    if optimiser is None:
        raise InputError(f"{path}: neither a model.star nor an optimiser.star of RELION; give a *_model.star")
    model, notices = _locate(optimiser.value("rlnModelStarFile"), path)
    data = None
    if count_particles and optimiser.has("rlnExperimentalDataStarFile"):
        data, more = _locate(optimiser.value("rlnExperimentalDataStarFile"), path)
        notices += more
    found = _model_set(model, read_star(model), data, count_particles)
    return replace(found, notices=_distinct([*notices, *found.notices]))


def _distinct(notices: Sequence[Notice]) -> tuple[Notice, ...]:
    return tuple(dict.fromkeys(notices))


def relion_folder(folder: Path, count_particles: bool) -> MapSet:
    """Find the last complete iteration of a job."""
    models = []
    for path in folder.iterdir():
        match = _MODEL.fullmatch(path.name)
        if match:
            models.append((int(match[2]), natural(path), path))
    if not models:
        raise InputError(f"{folder}: a RELION job without classes (no *_itNNN_model.star)")
    refused: list[str] = []
    for iteration, _, path in sorted(models, reverse=True):
        if iteration == 0:
            break
        try:
            found = _model_set(path, read_star(path), None, count_particles)
        except InputError as error:
            refused.append(str(error))
            continue
        return replace(found, notices=_distinct([*_incomplete(folder, iteration, refused), *found.notices]))
    reason = refused[0] if refused else "only iteration 0, the references it started from"
    raise InputError(f"{folder}: no complete iteration: {reason}")


def _incomplete(folder: Path, used: int, refused: Sequence[str]) -> list[Notice]:
    """Say so where a later iteration than the one used was begun."""
    matches = (_ANY_ITERATION.fullmatch(path.name) for path in folder.iterdir())
    last = max((int(match[1]) for match in matches if match), default=used)
    if last <= used:
        return []
    reason = refused[0] if refused else "it has no model.star yet"
    text = f"iteration {last} is not complete ({reason}); iteration {used} is used"
    return [Notice("incomplete-iteration", text)]


def _locate(reference: str, star: Path) -> tuple[Path, list[Notice]]:
    """Find a file that a STAR file names, relative to the project folder.

    A file of that name beside the STAR file is preferred: in a job that was moved or copied, the path may
    lead to another job's file.
    """
    home = star.absolute().parent
    folders = [home, *home.parents]
    root = next((folder for folder in folders if (folder / "default_pipeline.star").is_file()), None)
    if root is not None:
        folders = folders[: folders.index(root) + 1]
    at = next((folder for folder in folders if is_file(folder / reference)), None)
    beside = home / Path(reference).name
    notices = []
    if is_file(beside):
        found = star.parent / beside.name
        if at is not None and not beside.samefile(at / reference):
            text = f"{star.name} names {reference}, which is another file than {found}; the latter is used"
            notices.append(Notice("moved-job", text))
    elif at is not None:
        found = at / reference
    else:
        raise InputError(
            f"{star}: it names {reference}, which is neither below the project folder nor beside this file"
        )
    project = root or (home if at is None or Path(reference).is_absolute() else at)
    if not found.resolve().is_relative_to(project.resolve()):
        notices.append(Notice("outside-project", f"{found} lies outside of the project {project}"))
    return found, notices


def _optional(table: StarTable, column: str) -> list[float | None]:
    """Return a column as numbers, None where it is missing or not finite."""
    if not table.has(column):
        return [None] * len(table.rows)
    return [value if math.isfinite(value) else None for value in table.numbers(column)]


def _one(table: StarTable, column: str) -> float | None:
    """Return the first value of a column as `_optional` does; None where there is no row."""
    return next(iter(_optional(table, column)), None)


def _spectrum(table: StarTable | None, column: str) -> tuple[float, ...] | None:
    return table.numbers(column) if table is not None and table.has(column) else None


def _model_set(model: Path, tables: dict[str, StarTable], data: Path | None, count_particles: bool) -> MapSet:
    """Make a set of the classes of one iteration."""
    general, classes = tables.get("model_general"), tables.get("model_classes")
    if general is None or classes is None:
        raise InputError(f"{model}: not a model.star of RELION, or cut short (no block data_model_classes)")
    if _one(general, "rlnReferenceDimensionality") == 2:
        raise InputError(f"{model}: a 2D classification; maps are needed")
    expected = _one(general, "rlnNrClasses")
    if expected is not None and expected > len(classes.rows):
        raise InputError(
            f"{model}: it lists {len(classes.rows)} of {expected:.0f} classes; the file is truncated"
        )
    located = [_locate(reference, model) for reference in classes.column("rlnReferenceImage")]
    notices = [notice for _, more in located for notice in more]
    paths = [path for path, _ in located]
    iteration = re.search(r"_it(\d+)_", model.name)
    number = int(iteration[1]) if iteration else None
    if number == 0:
        notices.append(Notice("iteration-0", f"{model.name}: these are the references the job started from"))
    found = make_set("relion", model, paths, range(1, len(paths) + 1), iteration=number, base=1)
    data = data or model.with_name(model.name.removesuffix("_model.star") + "_data.star")
    pixel_size, box = _one(general, "rlnPixelSize"), _one(general, "rlnOriginalImageSize")
    if pixel_size is None or pixel_size <= 0:
        pixel_size = _pixel_size(data) or found.pixel_size
    notices += found.notices
    if found.pixel_size and pixel_size and abs(found.pixel_size / pixel_size - 1) > 0.01:
        text = f"{model.name} says {pixel_size:.4g} Å per voxel, the maps' headers {found.pixel_size:.4g} Å"
        notices.append(Notice("pixel-size", text))
    counts: Sequence[int | None] = [None] * len(paths)
    if count_particles:
        counts, more = _count(data, len(paths))
        notices += more
    return with_unregularised(
        replace(
            found,
            maps=_class_maps(found.maps, classes, tables, counts),
            pixel_size=pixel_size,
            box=found.box if box is None else int(box),
            tau_fudge=_one(general, "rlnTau2FudgeFactor"),
            notices=_distinct(notices),
        )
    )


def _class_maps(
    maps: Sequence[ClassMap],
    classes: StarTable,
    tables: dict[str, StarTable],
    counts: Sequence[int | None],
) -> tuple[ClassMap, ...]:
    """Add what the tables say of each class."""
    weights = _optional(classes, "rlnClassDistribution")
    resolutions = _optional(classes, "rlnEstimatedResolution")
    out = []
    for i, entry in enumerate(maps):
        shells = tables.get(f"model_class_{i + 1}")
        resolution = resolutions[i]
        out.append(
            replace(
                entry,
                weight=weights[i],
                particles=counts[i],
                resolution=resolution if resolution is not None and 0 < resolution < _NO_RESOLUTION else None,
                ssnr=_spectrum(shells, "rlnSsnrMap"),
                tau2=_spectrum(shells, "rlnReferenceTau2"),
                sigma2=_spectrum(shells, "rlnReferenceSigma2"),
            )
        )
    return tuple(out)


def _count(data: Path, classes: int) -> tuple[list[int | None], list[Notice]]:
    """Count the particles of each class; None where there is no such file."""
    if not data.is_file():
        return [None] * classes, [Notice("no-counts", f"no {data.name}: particles were not counted")]
    tables = read_star(data, columns=("rlnClassNumber",))
    counts: Counter[str] = Counter()
    for table in tables.values():
        counts.update(table.column("rlnClassNumber"))
    if not counts:
        return [None] * classes, [Notice("no-counts", f"{data.name} holds no class numbers")]
    return [counts[str(number)] for number in range(1, classes + 1)], []


def _pixel_size(data: Path) -> float | None:
    """Return Å per pixel of the particles, before RELION 3.1 from the magnification."""
    if not data.is_file():
        return None
    names = ("rlnImagePixelSize", "rlnDetectorPixelSize", "rlnMagnification")
    for table in read_star(data, columns=names).values():
        image, detector, magnification = (_one(table, name) for name in names)
        if image:
            return image
        if detector and magnification:
            return 1e4 * detector / magnification  # µm to Å
    return None


_EXITS = ("SUCCESS", "FAILURE", "ABORTED")


@dataclass(frozen=True)
class FinishedIteration:
    """One iteration that is complete.

    Attributes
    ----------
    number : int
        From 1.
    model : Path
        Its model.star.
    written : int
        When that was written, nanoseconds since 1970.
    """

    number: int
    model: Path
    written: int


def finished_iterations(folder: Path) -> list[FinishedIteration]:
    """Return the complete iterations of a job, in order.

    RELION writes optimiser, maps, model, data and sampling, in this order: an iteration is complete once
    its sampling.star or a later model.star is there. Of two runs of one iteration (a job that was continued)
    the later one counts.

    Raises
    ------
    InputError
        Where the folder cannot be read.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else str(error.strerror).lower()
        raise InputError(f"{folder}: {reason}; give the folder of a Class3D job") from error
    matches = [match for name in names if (match := _MODEL.fullmatch(name))]
    last = max((int(match[2]) for match in matches), default=0)
    found: dict[int, FinishedIteration] = {}
    for match in matches:
        number, path = int(match[2]), folder / match[0]
        if number == 0 or not (number < last or f"{match[1]}{match[2]}_sampling.star" in names):
            continue
        entry = FinishedIteration(number, path, path.stat().st_mtime_ns)
        if number not in found or found[number].written < entry.written:
            found[number] = entry
    return [found[number] for number in sorted(found)]


def has_ended(folder: Path, last: FinishedIteration | None) -> bool:
    """Tell whether a job will write no more: RELION says so, or the last iteration planned is there."""
    if any((folder / f"RELION_JOB_EXIT_{ending}").exists() for ending in _EXITS):
        return True
    if last is None:
        return False
    optimiser = last.model.with_name(last.model.name.removesuffix("_model.star") + "_optimiser.star")
    try:
        general = read_star(optimiser)["optimiser_general"]
        return last.number >= general.numbers("rlnNumberOfIterations")[0]
    except (InputError, KeyError, IndexError):
        return False
