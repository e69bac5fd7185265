"""Figures of a table of occupancies: heat map, correlations, tree of maps, strip and forest of one map."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from occupy.regions.relations import Correlation, Tree, correlations, pairs, tree_of, tree_of_correlation
from occupy.regions.table import OccupancyTable
from occupy.report.canvas import Page, difference_colormap, plain, scale_colormap, write_png
from occupy.report.palette import ink_on, scale_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: cells are as large as labels of readable size want, and smaller where the page would burst.
_ROW, _COLUMN = 0.2, 0.34
_LEAST_LABEL = 0.095
_TALLEST, _WIDEST = 20.0, 14.0
_TREE = 0.75
_VALUES_UP_TO = 600  # cells
_LINE = 0.16
_GREY = "#777777"

Numbers = npt.NDArray[np.float64]


def _label_space(names: Sequence[str], size: float) -> float:
    """Return the inches that the longest label takes (0.62 em a letter)."""
    return 0.12 + max((len(plain(name)) for name in names), default=0) * 0.62 * size / 72


@dataclass(frozen=True)
class _Labels:
    """How rows or columns of cells are labelled: inches per cell, every how many-th has a label, font."""

    cell: float
    every: int
    size: float

    @classmethod
    def of(cls, count: int, wanted: float, most: float) -> _Labels:
        """Choose for a number of cells, the size they would like, and the size all of them may take."""
        cell = min(wanted, most / max(1, count))
        every = max(1, ceil(_LEAST_LABEL / cell))
        return cls(cell, every, min(8.0, max(5.2, 0.78 * 72 * cell * every)))

    def put(self, axis: Any, names: Sequence[str], **look: Any) -> None:
        """Write the labels along a matplotlib axis."""
        at = range(0, len(names), self.every)
        axis.set_ticks(at, [plain(names[i]) for i in at], fontsize=self.size, **look)


def heat_map(table: OccupancyTable) -> Figure:
    """Draw regions × maps, both clustered, coloured by occupancy.

    Parameters
    ----------
    table : OccupancyTable
        From 1 to some thousand regions, from 1 to a thousand maps.

    Returns
    -------
    Figure
        Where there is no room for every name, only some are written; up to 600 cells show their values.
    """
    rows, columns = tree_of(table.values), tree_of(table.values.T)
    values = table.values[rows.order][:, columns.order]
    regions = [table.regions[i] for i in rows.order]
    maps = [_with_share(table, i) for i in columns.order]
    down = _Labels.of(len(regions), _ROW, _TALLEST)
    shown = values.size <= _VALUES_UP_TO
    across = _Labels.of(len(maps), 0.42 if shown else _COLUMN, _WIDEST)
    height, width = max(0.4, down.cell * len(regions)), max(1.2, across.cell * len(maps))
    names, below = _label_space(regions, down.size), _label_space(maps, across.size)
    trees = _TREE if len(regions) > 2 else 0.1, 0.55 if len(maps) > 2 else 0.1
    left, top = 0.2 + trees[0], 1.0 + trees[1]
    page = Page.of(max(4.2, left + width + names + 0.2), top + height + below + 0.25)
    page.text(0.2, 0.12, f"{_title(table)} of {len(regions)} regions in {len(maps)} maps", 10.5)
    _colour_bar(page.axes(0.2, 0.42, 2.4, 0.12), _title(table))
    axes = page.axes(left, top, width, height)
    axes.imshow(np.clip(values, 0, 1), cmap=_colours(), vmin=0, vmax=1, aspect="auto", interpolation="none")
    axes.set_facecolor("#e9e9e9")
    if shown:
        _write_values(axes, values, min(7.0, 0.66 * 72 * min(down.cell, across.cell * 0.55)))
    axes.yaxis.tick_right()
    down.put(axes.yaxis, regions)
    across.put(axes.xaxis, maps, rotation=90)
    axes.tick_params(length=0, pad=2)
    _draw_tree(page.axes(0.2, top, trees[0] - 0.03, height), rows, "left")
    _draw_tree(page.axes(left, top - trees[1], width, trees[1] - 0.03), columns, "top")
    return page.figure


def _with_share(table: OccupancyTable, column: int) -> str:
    weight = table.weights[column]
    name = plain(table.maps[column], 22)
    return f"{name} {100 * weight:.0f}%" if np.isfinite(weight) else name


def _title(table: OccupancyTable) -> str:
    titles = {"occupancy": "Occupancy", "relative": "Relative occupancy", "scale": "Local scale"}
    return titles.get(table.kind, table.kind)


def _colours() -> Any:
    return scale_colormap().with_extremes(bad="#e9e9e9")


def _colour_bar(axes: Axes, title: str) -> None:
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=_colours(), aspect="auto", extent=(0, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(labelsize=7, length=2, pad=1.5)
    axes.set_title(f"{title}: 0 absent, 1 fully present", size=7.5, loc="left", pad=2)


def _write_values(axes: Axes, values: Numbers, size: float) -> None:
    for (row, column), value in np.ndenumerate(values):
        known = bool(np.isfinite(value))
        ink = ink_on(scale_colour(float(value))) if known else "black"
        text = f"{value:.2f}" if known else "–"
        axes.text(column, row, text, size=size, ha="center", va="center", color=ink)


def _draw_tree(axes: Axes, tree: Tree, side: str) -> None:
    """Draw a tree beside (root to the left) or above cells; leaf i lies at the cell it belongs to."""
    from matplotlib.collections import LineCollection

    axes.set_axis_off()
    count = len(tree.order)
    across, depth = tree_lines(tree)
    lines = np.stack([depth, across] if side == "left" else [across, depth], axis=-1)
    axes.add_collection(LineCollection(list(lines), colors=_GREY, linewidths=0.7))
    far = float(tree.merges[-1, 2]) * 1.02 if len(tree.merges) else 0.0
    if side == "left":
        axes.set(xlim=(far or 1, 0), ylim=(count - 0.5, -0.5))
    else:
        axes.set(xlim=(-0.5, count - 0.5), ylim=(0, far or 1))


def tree_lines(tree: Tree) -> tuple[Numbers, Numbers]:
    """Return the brackets of a tree, four points each: position across the leaves, and distance."""
    count = len(tree.order)
    place = np.zeros(count + len(tree.merges))
    place[tree.order] = np.arange(count)
    depth = np.zeros_like(place)
    across = np.empty((len(tree.merges), 4))
    down = np.empty_like(across)
    for i, (a, b, distance, _) in enumerate(tree.merges):
        one, other = int(a), int(b)
        across[i] = place[one], place[one], place[other], place[other]
        down[i] = depth[one], distance, distance, depth[other]
        place[count + i] = (place[one] + place[other]) / 2
        depth[count + i] = distance
    return across, down


def correlation_figure(found: Correlation) -> Figure | None:
    """Draw which regions come together and which exclude each other, over the maps of a set.

    Pairs that do not stand out from chance are drawn pale. None where fewer than two regions vary or there
    are fewer than three maps.

    Parameters
    ----------
    found : Correlation
        From `occupy.regions.relations.correlations`.
    """
    count = len(found.regions)
    if count < 2 or found.maps < 3:
        return None
    tree = tree_of_correlation(found.r)
    names = [found.regions[i] for i in tree.order]
    r = found.r[tree.order][:, tree.order]
    significant = found.significant[tree.order][:, tree.order] | np.eye(count, dtype=bool)
    cells = _Labels.of(count, _ROW, _WIDEST)
    side, space = cells.cell * count, _label_space(names, cells.size)
    width = max(6.2, 0.2 + _TREE + side + space + 0.2)
    lines = [line for text in _honest_words(found) for line in textwrap.wrap(text, int(width * 15.5))]
    top = 1.15 + 0.03
    page = Page.of(width, top + side + space + 0.2 + _LINE * len(lines))
    page.text(0.2, 0.12, f"Which regions come together: {count} regions, {found.maps} maps", 10.5)
    _correlation_bar(page.axes(0.2, 0.55, 2.4, 0.12))
    axes = page.axes(0.2 + _TREE, top, side, side)
    axes.imshow(_paled(r, significant), aspect="auto", interpolation="none")
    axes.yaxis.tick_right()
    cells.put(axes.yaxis, names)
    cells.put(axes.xaxis, names, rotation=90)
    axes.tick_params(length=0, pad=2)
    _draw_tree(page.axes(0.2, top, _TREE - 0.03, side), tree, "left")
    for i, line in enumerate(lines):
        page.text(0.2, top + side + space + 0.1 + _LINE * i, line, 8, color="#333333")
    return page.figure


def _paled(r: Numbers, significant: npt.NDArray[np.bool_]) -> Numbers:
    colour = np.asarray(difference_colormap()((np.nan_to_num(r) + 1) / 2), dtype=np.float64)[..., :3]
    keep = np.where(significant, 1.0, 0.3)[..., None]
    return np.asarray(colour * keep + np.array([0.96, 0.96, 0.96]) * (1 - keep))


def _correlation_bar(axes: Axes) -> None:
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=difference_colormap(), aspect="auto", extent=(-1, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([-1, 0, 1], ["excludes (−1)", "unrelated", "comes with (+1)"])
    first, _, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    axes.tick_params(labelsize=7, length=2, pad=1.5)
    axes.set_title("Correlation of occupancy over the maps", size=7.5, loc="left", pad=2)


def _honest_words(found: Correlation) -> list[str]:
    """Say what the correlations are worth."""
    count = len(found.regions)
    every = count * (count - 1) // 2
    stand_out = int(np.triu(found.significant, 1).sum())
    words = [
        f"{found.maps} maps: by chance, one pair in twenty has |r| above {found.needed:.2f}. "
        f"{stand_out} of {every} pairs stand out (false discovery rate 5 %); all others are drawn pale."
    ]
    if found.maps < 10:
        words.append(
            "With so few maps a correlation says how these maps differ, not a rule of how the parts assemble."
        )
    together, apart = pairs(found, 3)
    if together:
        words.append("Together: " + "; ".join(f"{a} with {b} ({r:+.2f})" for a, b, r in together))
    if apart:
        words.append("Apart: " + "; ".join(f"{a} without {b} ({r:+.2f})" for a, b, r in apart))
    if found.constant:
        words.append(f"{len(found.constant)} regions that hardly vary are left out.")
    return words


def map_tree(table: OccupancyTable) -> Figure | None:
    """Draw how alike the maps of a set are: a tree by the typical difference in occupancy of a region.

    None for fewer than three maps.
    """
    if len(table.maps) < 3:
        return None
    tree = tree_of(table.values.T)
    names = [_with_share(table, i) for i in tree.order]
    down = _Labels.of(len(names), 0.24, _TALLEST)
    height, space = max(0.8, down.cell * len(names)), _label_space(names, down.size)
    page = Page.of(4.6 + space, height + 1.25)
    page.text(0.25, 0.12, f"How alike {len(names)} maps are ({len(table.regions)} regions)", 10.5)
    axes = page.axes(0.3, 0.5, 4.0, height)
    _draw_tree(axes, tree, "left")
    axes.set_axis_on()
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.yaxis.tick_right()
    down.put(axes.yaxis, names)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.set_xlabel("difference in occupancy (root mean square over regions)", size=8)
    return page.figure


def strip(table: OccupancyTable, column: int = 0) -> Figure:
    """Draw the regions of one map as bars in descending order, with 95 % intervals where known."""
    values = table.values[:, column]
    order = np.argsort(-np.nan_to_num(values, nan=-1), kind="stable")
    names = [table.regions[i] for i in order]
    down = _Labels.of(len(names), _ROW, _TALLEST)
    height, space = max(0.5, down.cell * len(names)), _label_space(names, down.size)
    page = Page.of(space + 4.6, height + 1.05)
    page.text(0.2, 0.12, f"{_title(table)} of {len(names)} regions in {plain(table.maps[column], 40)}", 10.5)
    axes = page.axes(space, 0.45, 4.4, height)
    shown = np.nan_to_num(values[order])
    axes.barh(np.arange(len(names)), shown, height=0.8, color=_colours()(np.clip(shown, 0, 1)), lw=0)
    if np.isfinite(table.errors[:, column]).any():
        low, high = table.low[order, column], table.high[order, column]
        for colour, thick in (("white", 2.2), ("black", 0.9)):
            axes.hlines(np.arange(len(names)), low, high, color=colour, lw=thick)
    down.put(axes.yaxis, names)
    axes.set(xlim=(0, max(1.0, float(shown.max()))), ylim=(len(names) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0, pad=2)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("0 absent, 1 fully present", size=8)
    return page.figure


def forest(table: OccupancyTable, column: int = 0) -> Figure:
    """Draw occupancies by a joint fit with 95 % intervals in the table's order, local scales as pale marks.

    Where the two differ beyond their errors, the region's name is bold.
    """
    assert table.beside is not None
    names, rows = list(table.regions), np.arange(len(table.regions))
    down = _Labels.of(len(names), _ROW, _TALLEST)
    height, space = max(0.5, down.cell * len(names)), _label_space(names, down.size)
    page = Page.of(space + 4.6, height + 1.3)
    title = f"Occupancy of {len(names)} parts in {plain(table.maps[column])}, 95 % intervals"
    page.text(0.2, 0.12, title, 9.5)
    axes = page.axes(space, 0.45, 4.4, height)
    read = table.beside.values[:, column]
    axes.plot(read, rows, "D", color="#c9c9c9", ms=5, mew=0, label="local scale at the atoms")
    axes.hlines(rows, table.low[:, column], table.high[:, column], color="black", lw=1.2)
    axes.plot(table.values[:, column], rows, "o", color="black", ms=4, label="occupancy")
    down.put(axes.yaxis, names)
    for label, notes in zip(axes.get_yticklabels(), table.beside.notes, strict=False):
        label.set_fontweight("bold" if notes[column] and down.cell == _ROW else "normal")
    axes.set(xlim=(-0.02, max(1.02, float(np.nanmax(read)) + 0.02)), ylim=(len(names) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0, pad=2)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("0 absent, 1 fully present", size=8)
    place = (0.5, -0.42 / height)
    axes.legend(loc="upper center", bbox_to_anchor=place, ncols=2, fontsize=7.5, frameon=False)
    return page.figure


def set_figures(table: OccupancyTable) -> dict[str, Figure]:
    """Return the figures that make sense for a table: what it shows → figure."""
    if len(table.maps) == 1:
        return {"strip": strip(table)} | ({} if table.beside is None else {"forest": forest(table)})
    figures = {
        "heat_map": heat_map(table),
        "correlation": correlation_figure(correlations(table)),
        "map_tree": map_tree(table),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def write_set_figures(table: OccupancyTable, folder: Path, stem: str = "occupancy") -> dict[str, str]:
    """Write ``<stem>_<figure>.png``, each complete or not at all; return what → file name."""
    names = {}
    for what, figure in set_figures(table).items():
        names[what] = f"{stem}_{what}.png"
        write_png(folder / names[what], figure)
    return names
