"""Picture of particles that go from class to class between runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from occupy.runs.agreement import contingency
from occupy.runs.compare import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito's colours, told apart in every kind of sight; what never settles is grey.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7a5195")
_LOOSE = "#b9bec5"
_BAR, _GAP = 0.09, 0.02


def flow_figure(found: Comparison) -> Figure:
    """Bars of classes for each run, and bands of the particles that go from one to the next.

    Classes of a run stand in the order of the consensus classes they belong to; a band of another colour than
    its bar is of particles that changed their class.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(2.6 + 2.0 * len(found.runs), 16), 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    kinds = np.where(found.settled, found.consensus.labels, found.consensus.count)
    orders = [
        np.lexsort((-run.sizes, of)) for run, of in zip(found.runs, found.consensus.belongs, strict=True)
    ]
    places = [_places(run.sizes[order]) for run, order in zip(found.runs, orders, strict=True)]
    for i, run in enumerate(found.runs):
        for k, (low, high) in zip(orders[i], places[i], strict=True):
            shade = _shade(found, int(found.consensus.belongs[i][k]))
            axes.fill_between([i - _BAR, i + _BAR], low, high, color=shade, linewidth=0)
            if high - low > 0.03:
                label = str(run.classes[k])
                axes.text(i, (low + high) / 2, label, ha="center", va="center", color="white", size=9)
    for i in range(len(found.runs) - 1):
        _bands(axes, found, i, orders, places, kinds)
    names = [run.name if len(run.name) < 22 else f"…{run.name[-20:]}" for run in found.runs]
    axes.set_xticks(range(len(names)), names, size=8)
    axes.set_yticks([])
    axes.set_xlim(-0.25, len(names) - 0.75)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    _key(axes, found, bool((~found.settled).any()))
    return figure


def _shade(found: Comparison, number: int) -> str:
    return _LOOSE if number >= found.consensus.count else _COLOURS[number % len(_COLOURS)]


def _places(sizes: np.ndarray) -> list[tuple[float, float]]:
    """Return bottom and top of each class, from the top down, with gaps between."""
    heights = sizes / max(sizes.sum(), 1)
    tops = 1 - np.concatenate([[0], np.cumsum(heights + _GAP)[:-1]])
    return [(float(top - height), float(top)) for top, height in zip(tops, heights, strict=True)]


def _bands(axes: Any, found: Comparison, i: int, orders: Any, places: Any, kinds: np.ndarray) -> None:
    """Draw what goes from the classes of run i to those of the next, a band per consensus class."""
    one, other = found.runs[i], found.runs[i + 1]
    rows, columns, total = len(one.classes), len(other.classes), len(kinds)
    left = [top for _, top in places[i]]
    right = [top for _, top in places[i + 1]]
    x = np.linspace(0, 1, 30)
    bend = x * x * (3 - 2 * x)
    for a, k in enumerate(orders[i]):
        for b, m in enumerate(orders[i + 1]):
            for kind in range(found.consensus.count + 1):
                mine = kinds == kind
                table = contingency(one.labels[mine], other.labels[mine], rows, columns)
                height = table[k, m] / total
                if height == 0:
                    continue
                top = left[a] + (right[b] - left[a]) * bend
                axes.fill_between(
                    i + _BAR + x * (1 - 2 * _BAR), top - height, top, color=_shade(found, kind), alpha=0.55,
                    linewidth=0,
                )  # fmt: skip
                left[a] -= height
                right[b] -= height


def _key(axes: Any, found: Comparison, loose: bool) -> None:
    from matplotlib.patches import Patch

    kinds = [(f"class {z + 1}", _shade(found, z)) for z in range(found.consensus.count)]
    kinds += [("never settle", _LOOSE)] * loose
    handles = [Patch(color=colour, label=name) for name, colour in kinds]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
