"""Write what a set of maps shows: three maps per class, three for the set, and the masks of components."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.ensemble.components import Component, soft_mask, varying
from occupy.ensemble.pipeline import SetEstimate, summarise_set
from occupy.io.atomic import make_folder
from occupy.io.mrc import open_writer
from occupy.report.set_results import file_name

Array = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]

PRODUCTS = {
    "relative": "occupancy relative to the best class",
    "occupancy": "occupancy",
    "uncertainty": "standard error of occupancy",
}
OF_SET = {
    "composite": "what all classes share, as strong as in the best class",
    "mean_occupancy": "occupancy averaged over all particles",
    "variability": "standard deviation of occupancy between classes",
}


def write_on_grid(path: Path, est: SetEstimate, array: Array, what: str) -> None:
    """Write an array of the content box as a map on the grid of the input."""
    with open_writer(path, est.grid, what) as writer:
        for start, slab in est.on_grid(array):
            writer.write_planes(start, slab)


def write_class_maps(
    folder: Path, est: SetEstimate, *, keep: bool = False, progress: Progress | None = None
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Write the maps of every class and of the set.

    Parameters
    ----------
    folder : Path
        Created where missing.
    est : SetEstimate
    keep : bool
        Leave maps of classes that are there already (files are complete or not there).
    progress : callable, optional
        ``progress(stage, done, total)``.

    Returns
    -------
    of_classes, of_set : dict
        Class → product → file name, and product → file name.
    """
    make_folder(folder)
    of_classes = {name: {p: f"{file_name(name)}_{p}.mrc" for p in PRODUCTS} for name in est.names}
    if not keep:
        # Else a run that goes on with this one would take an older run's maps for its own.
        for files in of_classes.values():
            for file in files.values():
                (folder / file).unlink(missing_ok=True)
    for k, name in enumerate(est.names):
        if progress is not None:
            progress(f"writing {name}", k, len(est.names))
        if keep and all((folder / file).exists() for file in of_classes[name].values()):
            continue
        found = est.of_class(k)
        for product, what in PRODUCTS.items():
            write_on_grid(folder / of_classes[name][product], est, getattr(found, product), what)
    summary = summarise_set(est, varying(est))
    of_set = {product: f"{product}.mrc" for product in OF_SET}
    for product, what in OF_SET.items():
        write_on_grid(folder / of_set[product], est, getattr(summary, product), what)
    return of_classes, of_set


def write_components(folder: Path, est: SetEstimate, components: Sequence[Component]) -> dict[str, str]:
    """Write components as soft masks into ``components/``; masks of an earlier run are removed first."""
    inside = folder / "components"
    for old in inside.glob("component??.mrc"):
        old.unlink()
    if not components:
        return {}
    make_folder(inside)
    files = {c.name: f"components/{c.name}.mrc" for c in components}
    for component in components:
        what = f"{component.name}: varies together between classes"
        write_on_grid(folder / files[component.name], est, soft_mask(est, component.mask), what)
    return files
