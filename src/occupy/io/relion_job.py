"""How RELION 3.0 to 5 lays out the classes of a Class3D job, finished or still running."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from occupy.errors import InputError, Notice
from occupy.io.atomic import is_file, read_errors
from occupy.io.loop import with_unregularised
from occupy.io.mapset import ClassMap, MapSet, natural
from occupy.io.star import StarTable, read_star

_MODEL = re.compile(r"(.+_it)(\d+)_model\.star")
_ANY_ITERATION = re.compile(r".+_it(\d+)_(?:class\d+|model|data|optimiser)\b.*")


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
    matches = ((path, _MODEL.fullmatch(path.name)) for path in folder.iterdir())
    models = [(int(match[2]), natural(path), path) for path, match in matches if match]
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
    folders = folders[: folders.index(root or folders[-1]) + 1]
    at = next((folder for folder in folders if is_file(folder / reference)), None)
    beside = home / Path(reference).name
    if is_file(beside):
        found = star.parent / beside.name
    elif at is not None:
        found = at / reference
    else:
        raise InputError(
            f"{star}: it names {reference}, which is neither below the project folder nor beside this file"
        )
    project = root or (home if at is None or Path(reference).is_absolute() else at)
    return found, _moved(star, reference, found, at) + _outside(found, project)


def _moved(star: Path, reference: str, found: Path, at: Path | None) -> list[Notice]:
    if at is None or found.samefile(at / reference):
        return []
    text = f"{star.name} names {reference}, which is another file than {found}; the latter is used"
    return [Notice("moved-job", text)]


def _outside(found: Path, project: Path) -> list[Notice]:
    if found.resolve().is_relative_to(project.resolve()):
        return []
    return [Notice("outside-project", f"{found} lies outside of the project {project}")]


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
    general, classes = _checked(model, tables)
    located = [_locate(reference, model) for reference in classes.column("rlnReferenceImage")]
    notices = [notice for _, more in located for notice in more]
    paths = [path for path, _ in located]
    number = next((int(digits) for digits in re.findall(r"_it(\d+)_", model.name)), None)
    if number == 0:
        notices.append(Notice("iteration-0", f"{model.name}: these are the references the job started from"))
    found = MapSet.of("relion", model, paths, range(1, len(paths) + 1), iteration=number, base=1)
    data = data or model.with_name(model.name.removesuffix("_model.star") + "_data.star")
    pixel_size, box = _pixel_size(general, data, found), _one(general, "rlnOriginalImageSize")
    notices += [*found.notices, *_other_size(model, pixel_size, found.pixel_size)]
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


def _other_size(model: Path, said: float | None, found: float | None) -> list[Notice]:
    if not (said and found and abs(found / said - 1) > 0.01):
        return []
    text = f"{model.name} says {said:.4g} Å per voxel, the maps' headers {found:.4g} Å"
    return [Notice("pixel-size", text)]


def _checked(model: Path, tables: dict[str, StarTable]) -> tuple[StarTable, StarTable]:
    """Return the tables of a 3D classification and its classes; InputError where they are not all there."""
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
    return general, classes


def _class_maps(
    maps: Sequence[ClassMap],
    classes: StarTable,
    tables: dict[str, StarTable],
    counts: Sequence[int | None],
) -> tuple[ClassMap, ...]:
    """Add what the tables say of each class."""
    weights = _optional(classes, "rlnClassDistribution")
    resolutions = _optional(classes, "rlnEstimatedResolution")
    shells = [tables.get(f"model_class_{i}") for i in range(1, len(maps) + 1)]
    return tuple(
        replace(
            entry,
            weight=weights[i],
            particles=counts[i],
            # RELION writes 999 Å for no resolution.
            resolution=resolution if 0 < (resolution or 0) < 999 else None,
            ssnr=_spectrum(shells[i], "rlnSsnrMap"),
            tau2=_spectrum(shells[i], "rlnReferenceTau2"),
            sigma2=_spectrum(shells[i], "rlnReferenceSigma2"),
        )
        for i, (entry, resolution) in enumerate(zip(maps, resolutions, strict=True))
    )


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


def _pixel_size(general: StarTable, data: Path, found: MapSet) -> float | None:
    """Return Å per voxel: as the model says, else of the particles, else of the maps."""
    said = _one(general, "rlnPixelSize")
    if said is not None and said > 0:
        return said
    names = ("rlnImagePixelSize", "rlnDetectorPixelSize", "rlnMagnification")
    for table in read_star(data, columns=names).values() if data.is_file() else ():
        image, detector, magnification = (_one(table, name) for name in names)
        if image:
            return image
        # Before RELION 3.1 it follows from the magnification; µm to Å.
        if detector and magnification:
            return 1e4 * detector / magnification
    return found.pixel_size


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
    with read_errors(folder, "no such folder", "; give the folder of a Class3D job"):
        names = {path.name for path in folder.iterdir()}
    matches = [match for name in names if (match := _MODEL.fullmatch(name)) and int(match[2])]
    last = max((int(match[2]) for match in matches), default=0)
    found: dict[int, FinishedIteration] = {}
    for match in matches:
        number, path = int(match[2]), folder / match[0]
        if number < last or f"{match[1]}{match[2]}_sampling.star" in names:
            entry = FinishedIteration(number, path, path.stat().st_mtime_ns)
            found[number] = max(found.get(number, entry), entry, key=lambda each: each.written)
    return [found[number] for number in sorted(found)]


def has_ended(folder: Path, last: FinishedIteration | None) -> bool:
    """Tell whether a job will write no more: RELION says so, or the last iteration planned is there."""
    exits = ("SUCCESS", "FAILURE", "ABORTED")
    if any((folder / f"RELION_JOB_EXIT_{ending}").exists() for ending in exits):
        return True
    if last is None:
        return False
    optimiser = last.model.with_name(last.model.name.removesuffix("_model.star") + "_optimiser.star")
    try:
        general = read_star(optimiser)["optimiser_general"]
        return last.number >= general.numbers("rlnNumberOfIterations")[0]
    except (InputError, KeyError, IndexError):
        return False
