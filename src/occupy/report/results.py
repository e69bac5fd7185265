"""Write everything a run gives into one folder, maps slab by slab, the record last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.io.atomic import discard_unfinished, make_folder, write_text
from occupy.io.mrc import open_writer, write_map
from occupy.pipeline import Estimate
from occupy.render import B_FACTORS, PLAIN, finish, needs_finish, products_of, render
from occupy.report.chimerax import chimerax_script
from occupy.report.chimerax_files import copy_name, opens_as_read, seen_from
from occupy.report.record import record_of, to_json
from occupy.report.text import log_text
from occupy.settings import Settings
from occupy.volume import Volume

Array = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]

WHAT = {
    "scale": "local scale",
    "confidence": "confidence",
    "mask_fdr": "content at a false-discovery rate",
    "uncertainty": "standard error of the local scale",
    "relative_bfactor": "relative B-factor",
    "relative_bfactor_error": "standard error of the relative B-factor",
    "lowpass": "low-passed input",
    "amplified": "amplified by local scale",
    "attenuated": "attenuated by local scale",
    "sigmoid": "modified by a sigmoid of local scale",
    "solvent_excluded": "solvent excluded",
}


@dataclass(frozen=True)
class Written:
    """What was written: folder, product → file name, the variability limit, and the record."""

    folder: Path
    files: Mapping[str, str]
    variability_limit: float
    record: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def _folder_for(folder: Path) -> Iterator[None]:
    """Create a folder; where the work fails before anything is in it, take it away again."""
    existed = folder.exists()
    make_folder(folder)
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
            product: stack.enter_context(open_writer(folder / files[product], est.volume, WHAT[product]))
            for product in products
            if product not in late
        }

        def consume(product: str, start: int, stop: int, slab: Array) -> None:
            if product in late:
                whole[product][start:stop] = slab
            else:
                writers[product].write_planes(start, slab)

        limit = render(est, products, consume, progress)
        # The record of an earlier run must not vouch for maps that are about to replace its own.
        (folder / f"{stem}_occupy.json").unlink(missing_ok=True)
        for product, data in whole.items():
            volume = est.volume.with_data(finish(est.settings, est.volume, data))
            write_map(folder / files[product], volume, WHAT[product])
    return Written(folder, files, limit)


def write_results(
    est: Estimate,
    asked: Settings,
    folder: Path,
    *,
    inputs: Mapping[str, tuple[Volume, Path]],
    command: Sequence[str] | None = None,
    intermediate: bool = False,
    plot: bool = False,
    report: bool = False,
    level: float | None = None,
    minimum_scale: float = 0.2,
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
        Role (``map``, ``solvent_mask``, ``target_mask``) → volume and its file.
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
    shown = {product: f"{stem}_{product}.mrc" for product in products_of(est.settings)}
    source = inputs["map"][1]
    opens = opens_as_read(folder, source, est.volume.voxel_size)
    shown["map"] = seen_from(folder, source) if opens else copy_name(stem)
    # Before anything is written: a name that ChimeraX cannot open, or a bad level, is found here.
    script = chimerax_script(est, shown, level=level, minimum_scale=minimum_scale)
    written = write_maps(est, folder, stem, intermediate=intermediate, progress=progress)
    files = dict(written.files)
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
        variability_limit=written.variability_limit,
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
    # Last: where the record is, everything else is complete.
    files["record"] = f"{stem}_occupy.json"
    write_text(folder / files["record"], to_json(record))
    return Written(folder, files, written.variability_limit, record)
