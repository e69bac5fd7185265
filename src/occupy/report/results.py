"""Write everything a run gives into one folder, maps slab by slab, the record last."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.io.atomic import discard_unfinished, make_folder, remove_leftovers, write_text
from occupy.io.checksum import FileSum, ReadFile, written
from occupy.io.mrc import open_writer, write_map
from occupy.modify import modifications
from occupy.pipeline import Estimate
from occupy.report.chimerax import chimerax_script
from occupy.report.chimerax_files import copy_name, opens_as_read, seen_from
from occupy.report.contents import WHAT as WHAT
from occupy.report.contents import make_way
from occupy.report.record import log_text, record_of, to_json
from occupy.settings import Output, Settings
from occupy.volume import Consume, LazyMap, Progress, Volume, compute_planes

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    folder : Path
    files : mapping
        Product → file name.
    variability_limit : float
        See `Estimate.variability_limit`.
    record : mapping
        The record, where one was written.
    sums : mapping
        File name → size and checksum of a map.
    removed : tuple of str
        Names of what earlier runs over this map had left in the folder.
    """

    folder: Path
    files: Mapping[str, str]
    variability_limit: float
    record: Mapping[str, Any] = field(default_factory=dict)
    sums: Mapping[str, FileSum] = field(default_factory=dict)
    removed: tuple[str, ...] = ()


def write_lazy_maps(
    folder: Path,
    maps: Mapping[str, tuple[str, LazyMap]],
    *,
    progress: Progress | None = None,
    before_replacing: Callable[[], None] = lambda: None,
    also: Consume = lambda *_: None,
) -> dict[str, FileSum]:
    """Write maps, those of one grid in one pass; return size and checksum of every file.

    Parameters
    ----------
    folder : Path
        Where to.
    maps : mapping
        File name → what the map's last label says, and the map.
    progress : callable, optional
        ``progress("maps", planes done, planes)``.
    before_replacing : callable
        Is called when everything is computed, before files of the same names are replaced.
    also : callable
        Is given what is written too: file name, first plane, plane after the last, planes.
    """
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(open_writer(folder / name, lazy, what, checksum=True))
            for name, (what, lazy) in maps.items()
        }

        def consume(name: str, start: int, stop: int, planes: Array) -> None:
            writers[name].write_planes(start, planes)
            also(name, start, stop, planes)

        for shape in dict.fromkeys(lazy.shape for _, lazy in maps.values()):
            of_grid = {name: lazy for name, (_, lazy) in maps.items() if lazy.shape == shape}
            compute_planes(of_grid, consume, progress)
        before_replacing()
    return {name: writer.file for name, writer in writers.items() if writer.file is not None}


@contextmanager
def _folder_for(folder: Path) -> Iterator[None]:
    """Create a folder; where the work fails before anything is in it, take it away again."""
    existed = folder.exists()
    remove_leftovers(make_folder(folder))
    try:
        yield
    except BaseException:
        discard_unfinished(folder)
        if not existed:
            with suppress(OSError):  # not empty
                folder.rmdir()
        raise


def _write_maps(
    est: Estimate,
    folder: Path,
    stem: str,
    *,
    output: Output,
    inputs: Collection[Path] = (),
    progress: Progress | None = None,
) -> Written:
    """Write scale, confidence and the modified maps asked for.

    Parameters
    ----------
    est : Estimate
        From `occupy.pipeline.estimate`.
    folder : Path
        Created where missing.
    stem : str
        Names are ``<stem>_<product>.mrc``.
    output : Output, optional
        Whether the low-passed map is written too, and how large voxels are.
    inputs : collection of Path
        Files that were read; those of an earlier run's that this one does not replace are removed, but these.
    progress : callable, optional
        ``progress(stage, done, total)``.
    """
    maps = {name: lazy for name, lazy in est.maps.items() if output.intermediate or name != "lowpass"}
    # Where the map's own voxels are the larger ones there is nothing to save.
    if output.output_voxel == "coarse" and math.prod(est.settings.shape) < math.prod(est.volume.shape):
        maps |= est.coarse_maps
    files = {product: f"{stem}_{product}.mrc" for product in maps}
    at_full = np.zeros((est.volume.shape[0], 2))
    removed: list[str] = []

    def sum_up(file: str, start: int, stop: int, planes: Array) -> None:
        if file == files["scale"] and not est.resampled:
            at_full[start:stop] = est.sums_at_full_scale(planes, start)

    def replacing() -> None:
        # No record of an earlier run may vouch for maps that are about to replace its own.
        removed.extend(make_way(folder, stem, files.values(), inputs))

    with _folder_for(folder):
        written = {files[product]: (WHAT[product], lazy) for product, lazy in maps.items()}
        sums = write_lazy_maps(folder, written, progress=progress, before_replacing=replacing, also=sum_up)
    limit = est.variability_limit if est.resampled else est.mean_at_full_scale(at_full)
    return Written(folder, files, limit, sums=sums, removed=tuple(removed))


def _pictures(est: Estimate, folder: Path, stem: str, output: Output, report: Progress) -> dict[str, str]:
    """Draw the pictures of an estimate that are wanted; return product → file name."""
    files: dict[str, str] = {}
    # It takes as long as all the rest, so it is made where pictures are.
    if output.plot or output.report:
        from occupy.report.surfaces import colouring

        report("colours of surfaces", 0, 0)
        files["colouring"] = f"{stem}_colouring.map"
        write_map(folder / files["colouring"], colouring(est), "what surfaces are coloured by")
    if output.plot:
        from occupy.report.figures import write_figures

        report("pictures", 0, 0)
        paths = write_figures(est, folder, stem, _named(report, "pictures"))
        files |= {path.stem.removeprefix(f"{stem}_") + "_picture": path.name for path in paths}
    if output.figure_width is not None:
        from occupy.report.figures import write_paper_figure

        report("figure for a paper", 0, 0)
        files |= write_paper_figure(est, folder, stem, output.figure_width)
    return files


def _named(report: Progress, stage: str) -> Callable[[str], str]:
    """Return what reports each part of a stage by its title, and returns the title."""

    def begin(title: str) -> str:
        report(f"{stage}: {title.lower()}", 0, 0)
        return title

    return begin


def recorded_options(output: Output, voxel_size: float | None) -> dict[str, Any]:
    """Return what a record says of what was written; what came after 0.1 only where it was asked for."""
    names = ("intermediate", "plot", "report", "level", "minimum_scale")
    told = {name: getattr(output, name) for name in names} | {"voxel_size": voxel_size}
    later = {name: getattr(output, name) for name in ("figure_width", "output_voxel")}
    return told | {name: value for name, value in later.items() if value != getattr(Output, name)}


def write_results(
    est: Estimate,
    asked: Settings,
    folder: Path,
    output: Output | None = None,
    *,
    inputs: Mapping[str, tuple[Volume, ReadFile | Path]],
    command: Sequence[str] | None = None,
    voxel_size: float | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write maps, ChimeraX script, pictures and, last, the record ``<stem>_occupy.json``.

    Parameters
    ----------
    est : Estimate
        From `occupy.pipeline.estimate`.
    asked : Settings
        What the user said.
    folder : Path
        Created where missing.
    output : Output, optional
        What is written besides maps.
    inputs : mapping
        Role (``map``, ``solvent_mask``, ``target_mask``) → volume and the file it was read from.
    command : sequence of str, optional
        The command line.
    voxel_size : float, optional
        What the user gave in place of the header's, for the record.
    progress : callable, optional
        ``progress(stage, done, total)``.
    """
    output = output or Output()
    stem = est.volume.name
    paths = {role: f.path if isinstance(f, ReadFile) else f for role, (_, f) in inputs.items()}
    named = ("scale", "confidence", *modifications(est.settings), "occupancy")
    shown = {p: f"{stem}_{p}.mrc" for p in named if p in est.maps}
    if output.plot or output.report:
        shown["colouring"] = f"{stem}_colouring.map"
    opens = opens_as_read(folder, paths["map"], est.volume.voxel_size)
    shown["map"] = seen_from(folder, paths["map"]) if opens else copy_name(stem)
    # Before anything is written: a name that ChimeraX cannot open, a bad level, or an input that changed
    # while it was read is found here.
    script = chimerax_script(est, shown, level=output.level, minimum_scale=output.minimum_scale)
    for _, file in inputs.values():
        if isinstance(file, ReadFile):
            file.checksum.hexdigest()
    made = _write_maps(est, folder, stem, output=output, inputs=list(paths.values()), progress=progress)
    files = dict(made.files)
    if not opens:
        files["input"] = copy_name(stem)
        write_map(folder / files["input"], est.volume, "input")
    files["chimerax"] = f"{stem}.cxc"
    write_text(folder / files["chimerax"], script)
    report = progress or (lambda *_: None)
    files |= _pictures(est, folder, stem, output, report)
    if output.report:
        files["report"] = f"{stem}_report.html"
    files["log"] = f"{stem}_occupy.log"
    record = record_of(
        est, asked, inputs=inputs, outputs=files, variability_limit=made.variability_limit, command=command,
        options=recorded_options(output, voxel_size),
    )  # fmt: skip
    if output.report:
        from occupy.report.estimate_page import write_report

        report("report", 0, 0)
        write_report(
            folder / files["report"], est, record, level=output.level, begin=_named(report, "report")
        )
    write_text(folder / files["log"], log_text(record))
    sums = made.sums
    record["files"] = {f: sums[f].about() if f in sums else written(folder / f) for f in files.values()}
    # Last: where the record is, everything else is complete.
    files["record"] = f"{stem}_occupy.json"
    write_text(folder / files["record"], to_json(record))
    removed = tuple(name for name in made.removed if name not in files.values())
    return replace(made, files=files, record=record, removed=removed)
