"""An estimate in a notebook: a surface to turn where widgets work, a picture everywhere else."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from typing import Any

from occupy.pipeline import Estimate
from occupy.report.canvas import png_text
from occupy.report.estimate_page import colourings, surface_of
from occupy.report.figures import slices_figure
from occupy.report.html import in_one_module
from occupy.report.record import numbers_of
from occupy.report.text import number_lines


def _module_text() -> str:
    """Return the widget's JavaScript, one module that needs nothing else."""
    return in_one_module("geometry.js", "surface.js", "widget.js")


def surface_widget(est: Estimate, *, level: float | None = None, height: int = 420) -> Any:
    """Return a widget with the surface of a map, coloured by its occupancy, scale or confidence.

    Parameters
    ----------
    est : Estimate
        From `occupy.estimate`.
    level : float, optional
        Contour level in map units.
    height : int
        Pixels.

    Raises
    ------
    ModuleNotFoundError
        Without anywidget (the extra ``jupyter``).
    """
    base, traitlets = import_module("anywidget").AnyWidget, import_module("traitlets")
    members = {
        "_esm": _module_text(),
        "mesh": traitlets.Bytes().tag(sync=True),
        "colours": traitlets.List().tag(sync=True),
        "height": traitlets.Int(420).tag(sync=True),
    }
    kind = type("OccupySurface", (base,), members)
    colours = [asdict(colouring) for colouring in colourings(est)]
    message, _ = surface_of(est, level)
    return kind(mesh=message, colours=colours, height=height)


def mime_bundle(est: Estimate) -> dict[str, Any]:
    """Return how an estimate shows itself: as text, as a picture, and as a widget where that is installed."""
    lines = [est.volume.name, *number_lines(numbers_of(est, est.variability_limit))]
    bundle: dict[str, Any] = {"text/plain": "\n  ".join(lines), "image/png": png_text(slices_figure(est), 90)}
    try:
        shown = surface_widget(est)._repr_mimebundle_()
    except ModuleNotFoundError:
        return bundle
    # Older ones return a pair of data and metadata.
    data = shown[0] if isinstance(shown, tuple) else shown
    kind = "application/vnd.jupyter.widget-view+json"
    return {**bundle, kind: data[kind]} if data and kind in data else bundle
