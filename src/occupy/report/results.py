"""Write everything a run gives into one folder, maps slab by slab, the record last."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.io.atomic import discard_unfinished, make_folder, remove_leftovers, write_text
from occupy.io.checksum import FileSum, Source, written
from occupy.io.mrc import open_writer, write_map
from occupy.pipeline import Estimate
from occupy.render import B_FACTORS, PLAIN, finish, needs_finish, products_of, render
from occupy.report.chimerax import chimerax_script
from occupy.report.chimerax_files import copy_name, opens_as_read, seen_from
from occupy.report.contents import WHAT as WHAT
from occupy.report.contents import make_way
from occupy.report.record import record_of, to_json
from occupy.report.text import log_text
from occupy.settings import Settings
from occupy.volume import Volume

Array = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    folder : Path
    files : mapping
        Product → file name.
    variability_limit : float
        From `occupy.render.render`.
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


def write_maps(
    est: Estimate,
    folder: Path,
    stem: str,
    *,
    intermediate: bool = False,
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
    intermediate : bool, default False
        Write the low-passed map too.
    inputs : collection of Path
        Files that were read; those of an earlier run's that this one does not replace are removed, but these.
    progress : callable, optional
        ``progress(stage, done, total)``.
    """
    products = products_of(est.settings) + (["uncertainty"] if est.calibration is not None else [])
    products += list(B_FACTORS) if est.b_factors is not None else []
    products += ["mask_fdr"] if est.settings.fdr is not None else []
    products += ["lowpass"] if intermediate else []
    late = [p for p in products if p not in PLAIN] if needs_finish(est.settings) else []
    whole = {product: np.empty(est.volume.shape, dtype=np.float32) for product in late}
    files = {product: f"{stem}_{product}.mrc" for product in products}
    with _folder_for(folder), ExitStack() as stack:
        writers = {
            product: stack.enter_context(
                open_writer(folder / files[product], est.volume, WHAT[product], checksum=True)
            )
            for product in products
            if product not in late
        }

        def consume(product: str, start: int, stop: int, slab: Array) -> None:
            if product in late:
                whole[product][start:stop] = slab
            else:
                writers[product].write_planes(start, slab)

        limit = render(est, products, consume, progress)
        # No record of an earlier run may vouch for maps that are about to replace its own.
        removed = make_way(folder, stem, files.values(), inputs)
        sums = {}
        for product, data in whole.items():
            volume = est.volume.with_data(finish(est.settings, est.volume, data))
            sums[files[product]] = write_map(folder / files[product], volume, WHAT[product], checksum=True)
    sums |= {files[product]: writer.file for product, writer in writers.items()}
    known = {name: found for name, found in sums.items() if found is not None}
    return Written(folder, files, limit, sums=known, removed=tuple(removed))


def write_results(
    est: Estimate,
    asked: Settings,
    folder: Path,
    *,
    inputs: Mapping[str, tuple[Volume, Source | Path]],
    command: Sequence[str] | None = None,
    intermediate: bool = False,
    plot: bool = False,
    report: bool = False,
    level: float | None = None,
    minimum_scale: float = 0.0,
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
    inputs : mapping
        Role (``map``, ``solvent_mask``, ``target_mask``) → volume and the file it was read from.
    command : sequence of str, optional
        The command line.
    intermediate, plot, report : bool
        Write the low-passed map; draw pictures; make a page of everything that opens in any browser.
    level : float, optional
        Contour level for ChimeraX, in the map's units.
    minimum_scale : float
        Lower end of the colours.
    voxel_size : float, optional
        What the user gave in place of the header's, for the record.
    progress : callable, optional
        ``progress(stage, done, total)``.
    """
    stem = est.volume.name
    paths = {role: f.path if isinstance(f, Source) else f for role, (_, f) in inputs.items()}
    shown = {product: f"{stem}_{product}.mrc" for product in products_of(est.settings)}
    source = paths["map"]
    opens = opens_as_read(folder, source, est.volume.voxel_size)
    shown["map"] = seen_from(folder, source) if opens else copy_name(stem)
    # Before anything is written: a name that ChimeraX cannot open, a bad level, or an input that changed
    # while it was read is found here.
    script = chimerax_script(est, shown, level=level, minimum_scale=minimum_scale)
    for _, file in inputs.values():
        if isinstance(file, Source):
            file.checksum.hexdigest()
    made = write_maps(
        est, folder, stem, intermediate=intermediate, inputs=list(paths.values()), progress=progress
    )
    files = dict(made.files)
    if not opens:
        files["input"] = copy_name(stem)
        write_map(folder / files["input"], est.volume, "input")
    files["chimerax"] = f"{stem}.cxc"
    write_text(folder / files["chimerax"], script)
    if plot:
        from occupy.report.figures import write_figures

        for path in write_figures(est, folder, stem):
            files[path.stem.removeprefix(f"{stem}_") + "_picture"] = path.name
    if report:
        files["report"] = f"{stem}_report.html"
    files["log"] = f"{stem}_occupy.log"
    record = record_of(
        est,
        asked,
        inputs=inputs,
        outputs=files,
        variability_limit=made.variability_limit,
        command=command,
        options={
            "intermediate": intermediate,
            "plot": plot,
            "report": report,
            "level": level,
            "minimum_scale": minimum_scale,
            "voxel_size": voxel_size,
        },
    )
    if report:
        from occupy.report.estimate_page import write_report

        write_report(folder / files["report"], est, record, level=level)
    write_text(folder / files["log"], log_text(record))
    record["files"] = {
        name: made.sums[name].about() if name in made.sums else written(folder / name)
        for name in files.values()
    }
    # Last: where the record is, everything else is complete.
    files["record"] = f"{stem}_occupy.json"
    write_text(folder / files["record"], to_json(record))
    removed = tuple(name for name in made.removed if name not in files.values())
    return replace(made, files=files, record=record, removed=removed)
