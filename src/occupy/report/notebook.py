"""An estimate in a notebook: a surface to turn where widgets work, a picture everywhere else."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from typing import Any

from occupy.pipeline import Estimate
from occupy.report.canvas import png_text
from occupy.report.estimate_page import colourings, surface_of
from occupy.report.figures import slices_figure
from occupy.report.html import in_one_module
from occupy.report.record import number_lines, numbers_of


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
    # A result stands for its estimate.
    est = getattr(est, "estimate", est)
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
    """Return how an estimate shows itself where no kernel runs: as text and as a picture."""
    lines = [est.volume.name, *number_lines(numbers_of(est, est.variability_limit))]
    return {"text/plain": "\n  ".join(lines), "image/png": png_text(slices_figure(est), 90)}


def show(est: Estimate) -> None:
    """Show an estimate in a notebook: a surface to turn where widgets are installed, and the picture.

    Two outputs: a page made of the notebook shows of one output what it likes best, and that is the widget,
    which is empty there.
    """
    display = import_module("IPython.display").display
    with suppress(ModuleNotFoundError):
        display(surface_widget(est))
    display(mime_bundle(est), raw=True)
