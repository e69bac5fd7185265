"""Central slices of lazy maps, of a result of one map or of a set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from occupy.volume import LazyMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_MAPS = 8
SHOWN = {"scale": 1.0, "confidence": 1.0, "occupancy": 1.0, "relative": 1.0, "uncertainty": 0.5}
"""What is drawn, and the value of its brightest colour."""


def lazy_slices(maps: Mapping[str, Mapping[str, LazyMap]]) -> Figure:
    """Draw the middle section of each map's scale and confidence, or occupancy and uncertainty.

    Parameters
    ----------
    maps : mapping
        Name → what there is of that map → lazy map. The first eight are drawn, one row each.
    """
    from matplotlib.figure import Figure

    names = list(maps)[:MOST_MAPS]
    columns = [what for what in SHOWN if what in maps[names[0]]]
    figure = Figure(figsize=(2.6 * len(columns), 2.6 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), len(columns), squeeze=False)
    for row, name in zip(grid, names, strict=True):
        for axes, what in zip(row, columns, strict=True):
            lazy = maps[name][what]
            middle = lazy.shape[0] // 2
            axes.imshow(lazy.planes(middle, middle + 1)[0], vmin=0, vmax=SHOWN[what], cmap="viridis")
            axes.set_axis_off()
            axes.set_title(f"{name}: {what}", size=8)
    return figure
