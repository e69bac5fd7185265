"""What all pictures are drawn on: figures without pyplot, pages in inches, colour maps, complete files.

Figures are made without pyplot, so no display is needed and no global state is touched.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.io.atomic import atomic_file
from occupy.report.palette import CONFIDENCE, DIFFERENCE, SCALE, UNCERTAINTY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

DPI = 300


def new_figure(width: float, height: float, **look: Any) -> Figure:
    """Return an empty figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _shown_figure()(figsize=(width, height), **{"dpi": DPI, "facecolor": "white", **look})
    FigureCanvasAgg(figure)
    return figure


@cache
def _shown_figure() -> type[Figure]:
    """Return the class of figures that notebooks show: pyplot, which did not make them, can't."""
    from matplotlib.figure import Figure

    class OccupyFigure(Figure):
        def _repr_png_(self) -> bytes:
            return _png(self, 110)

    return OccupyFigure


@dataclass(frozen=True)
class Page:
    """A figure measured in inches from its upper left corner."""

    figure: Figure
    width: float
    height: float

    @classmethod
    def of(cls, width: float, height: float) -> Page:
        """Make an empty one."""
        return cls(new_figure(width, height), width, height)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes by their upper left corner and size in inches."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, left: float, top: float, text: str, size: float, **look: Any) -> None:
        """Write text by the upper left corner, in inches."""
        self.figure.text(left / self.width, 1 - top / self.height, text, size=size, va="top", **look)


def plain(text: str, longest: int = 28) -> str:
    """Return one line, shortened in the middle, that matplotlib will not take for a formula."""
    line = " ".join(text.split())
    if len(line) > longest:
        half = (longest - 1) // 2
        line = f"{line[: longest - 1 - half]}…{line[-half:]}"
    return line.replace("$", r"\$")


def scale_colormap() -> LinearSegmentedColormap:
    """Return the palette of local scale as a matplotlib colour map."""
    return _colormap("occupy_scale", SCALE)


def difference_colormap() -> LinearSegmentedColormap:
    """Return the palette of differences as a matplotlib colour map."""
    return _colormap("occupy_difference", DIFFERENCE)


def confidence_colormap() -> LinearSegmentedColormap:
    """Return the palette of confidence as a matplotlib colour map."""
    return _colormap("occupy_confidence", CONFIDENCE)


def uncertainty_colormap() -> LinearSegmentedColormap:
    """Return the palette of standard errors as a matplotlib colour map."""
    return _colormap("occupy_uncertainty", UNCERTAINTY)


def _colormap(name: str, colours: tuple[str, ...]) -> LinearSegmentedColormap:
    from matplotlib.colors import LinearSegmentedColormap

    # 257 steps: one falls on every colour of the palette.
    return LinearSegmentedColormap.from_list(name, list(colours), N=257)


def _save(figure: Figure, target: Any, **how: Any) -> None:
    from matplotlib import rc_context

    with warnings.catch_warnings():
        # A name in letters that the font lacks is no reason to speak up.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        # Text stays text: smaller, and can be searched and edited. No date and no random names: what is the
        # same picture is the same file, on which a run that goes on with an earlier one depends.
        undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
        metadata = undated.get(how.get("format", "png"), {}) | how.pop("metadata", {})
        with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "occupy"}):
            figure.savefig(target, metadata=metadata, **how)


def write_picture(path: Path, figure: Figure, **how: Any) -> None:
    """Write a figure as PNG, SVG or PDF by the end of its name, complete or not at all."""
    with atomic_file(path) as part:
        _save(figure, part, format=path.suffix[1:], **{"dpi": DPI, **how})


def write_pdf(path: Path, pages: Sequence[Figure]) -> None:
    """Write figures as the pages of a PDF, complete or not at all."""
    from matplotlib.backends.backend_pdf import PdfPages

    with atomic_file(path) as part, PdfPages(part, metadata={"CreationDate": None}) as pdf:
        for figure in pages:
            _save(figure, pdf, format="pdf", dpi=DPI)


def _png(figure: Figure, dpi: int) -> bytes:
    stream = io.BytesIO()
    _save(figure, stream, format="png", dpi=dpi)
    return stream.getvalue()


def png_text(figure: Figure, dpi: int) -> str:
    """Return a figure as PNG in Base64."""
    return base64.b64encode(_png(figure, dpi)).decode()
