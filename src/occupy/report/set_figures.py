"""Figures of a table of occupancies: heat map, forest, correlations, tree of maps; strip of one map."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from occupy.regions.choose import Correlation, Tree
from occupy.regions.table import OccupancyTable
from occupy.report.canvas import Page, difference_colormap, plain, scale_colormap, write_pdf, write_picture
from occupy.report.palette import ink_on, scale_colour
from occupy.report.tables import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: cells are as large as labels of readable size want, and smaller where the page would burst.
_ROW, _COLUMN = 0.2, 0.34
_TALLEST, _WIDEST = 20.0, 14.0
_TREE = 0.75
_VALUES_UP_TO = 600  # cells of a page
# Rows under each other; more are folded into columns side by side, and onto further pages.
_FOLD, _BESIDE, _PAGES = 45, 100, 8
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
        every = max(1, ceil(0.095 / cell))
        return cls(cell, every, min(8.0, max(5.2, 0.78 * 72 * cell * every)))

    def put(self, axis: Any, names: Sequence[str], **look: Any) -> None:
        """Write the labels along a matplotlib axis."""
        at = range(0, len(names), self.every)
        axis.set_ticks(at, [plain(names[i]) for i in at], fontsize=self.size, **look)


def by_difference(table: OccupancyTable) -> list[int]:
    """Return the rows that have values, those that differ most between maps first."""
    known = np.flatnonzero(np.isfinite(table.values).any(axis=1))
    spread = np.nanmax(table.values[known], axis=1) - np.nanmin(table.values[known], axis=1)
    return [int(i) for i in known[np.argsort(-spread, kind="stable")]]


def _pages(order: Sequence[int], width: float) -> list[list[Sequence[int]]]:
    """Fold rows into columns of about equal length, each so many inches wide, and lay those on pages."""
    beside = max(1, int(_WIDEST / width))
    kept = order[: _PAGES * beside * _FOLD]
    each = ceil(len(kept) / max(1, ceil(len(kept) / _FOLD)))
    columns = [kept[i : i + each] for i in range(0, len(kept), each)]
    return [columns[i : i + beside] for i in range(0, len(columns), beside)]


def _numbered(title: str, pages: Sequence[Sequence[Sequence[int]]], number: int, rows: int) -> str:
    """Return the title of a page: which it is, and what is on none of them."""
    shown = sum(len(column) for page in pages for column in page)
    title += f" (the first {shown}; the table has all)" if shown < rows else ""
    return title + (f", page {number + 1} of {len(pages)}" if len(pages) > 1 else "")


def heat_map(table: OccupancyTable) -> list[Figure]:
    """Draw regions × maps, coloured by occupancy; up to 600 cells of a page show their values.

    Parameters
    ----------
    table : OccupancyTable
        From 1 to some thousand regions, from 1 to a thousand maps.

    Returns
    -------
    list of Figure
        Up to 45 regions in up to 100 maps are clustered, on one page. Of more regions those that vary most
        come first, in columns side by side and on up to eight pages; more maps follow each other likewise.
    """
    maps = Tree.of(table.values.T)
    parts = ceil(len(table.maps) / _BESIDE)
    if len(table.regions) <= _FOLD and parts == 1:
        return [_clustered(table, maps)]
    order = by_difference(table)
    chunks = [part.tolist() for part in np.array_split(maps.order, parts)]
    panels = [_folded(table, order, chunk) for chunk in chunks]
    return [figure for pages in panels for figure in pages][:_PAGES]


def _clustered(table: OccupancyTable, columns: Tree) -> Figure:
    rows = Tree.of(table.values)
    values = table.values[rows.order][:, columns.order]
    regions = [table.regions[i] for i in rows.order]
    maps = [_with_share(table, i) for i in columns.order]
    down, across = _Labels.of(len(regions), _ROW, _TALLEST), _map_labels(len(maps), values.size)
    height, width = max(0.4, down.cell * len(regions)), max(1.2, across.cell * len(maps))
    names, below = _label_space(regions, down.size), _label_space(maps, across.size)
    trees = _TREE if len(regions) > 2 else 0.1, 0.55 if len(maps) > 2 else 0.1
    left, top = 0.2 + trees[0], 1.0 + trees[1]
    page = Page.of(max(4.2, left + width + names + 0.2), top + height + below + 0.25)
    page.text(0.2, 0.12, f"{_title(table)} of {len(regions)} regions in {len(maps)} maps", 10.5)
    _colour_bar(page.axes(0.2, 0.42, 2.4, 0.12), _title(table))
    _cells(page.axes(left, top, width, height), values, (regions, down), (maps, across))
    _draw_tree(page.axes(0.2, top, trees[0] - 0.03, height), rows, "left")
    _draw_tree(page.axes(left, top - trees[1], width, trees[1] - 0.03), columns, "top")
    return page.figure


def _folded(table: OccupancyTable, order: Sequence[int], columns: Sequence[int]) -> list[Figure]:
    """Draw some maps of a table, those regions first that come first in an order."""
    maps = [_with_share(table, i) for i in columns]
    down = _Labels.of(1, _ROW, _TALLEST)
    across = _map_labels(len(maps), min(len(order), _FOLD) * len(maps))
    width, names = max(0.6, across.cell * len(maps)), _label_space(table.regions, down.size)
    step, below = width + names + 0.25, _label_space(maps, across.size)
    pages, figures = _pages(order, step), []
    of = f"{len(table.regions)} regions in {len(table.maps)} maps"
    few = "" if len(columns) == len(table.maps) else f" ({len(columns)} of them here)"
    title = f"{_title(table)} of {of}{few}, what varies most first"
    for number, folds in enumerate(pages):
        height = down.cell * len(folds[0])
        page = Page.of(max(6.4, 0.2 + step * len(folds)), 1.05 + height + below + 0.25)
        page.text(0.2, 0.12, _numbered(title, pages, number, len(order)), 10.5)
        _colour_bar(page.axes(0.2, 0.42, 2.4, 0.12), _title(table))
        for k, rows in enumerate(folds):
            axes = page.axes(0.2 + k * step, 1.05, width, down.cell * len(rows))
            regions = [table.regions[i] for i in rows]
            _cells(axes, table.values[rows][:, columns], (regions, down), (maps, across))
        figures.append(page.figure)
    return figures


def _map_labels(maps: int, cells: int) -> _Labels:
    return _Labels.of(maps, 0.42 if cells <= _VALUES_UP_TO else _COLUMN, _WIDEST)


def _cells(
    axes: Axes, values: Numbers, rows: tuple[list[str], _Labels], columns: tuple[list[str], _Labels]
) -> None:
    """Draw values as coloured cells, with their names, and their numbers where there is room."""
    axes.imshow(np.clip(values, 0, 1), cmap=_colours(), vmin=0, vmax=1, aspect="auto", interpolation="none")
    axes.set_facecolor("#e9e9e9")
    if values.size <= _VALUES_UP_TO:
        _write_values(axes, values, min(7.0, 0.66 * 72 * min(rows[1].cell, columns[1].cell * 0.55)))
    axes.yaxis.tick_right()
    rows[1].put(axes.yaxis, rows[0])
    columns[1].put(axes.xaxis, columns[0], rotation=90)
    axes.tick_params(length=0, pad=2)


def _with_share(table: OccupancyTable, column: int) -> str:
    weight = table.weights[column]
    name = plain(short_names(table.maps)[column], 22)
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
    across, depth = _tree_lines(tree)
    lines = np.stack([depth, across] if side == "left" else [across, depth], axis=-1)
    axes.add_collection(LineCollection(list(lines), colors=_GREY, linewidths=0.7))
    far = float(tree.merges[-1, 2]) * 1.02 if len(tree.merges) else 0.0
    if side == "left":
        axes.set(xlim=(far or 1, 0), ylim=(count - 0.5, -0.5))
    else:
        axes.set(xlim=(-0.5, count - 0.5), ylim=(0, far or 1))


def _tree_lines(tree: Tree) -> tuple[Numbers, Numbers]:
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


def _correlation_figure(found: Correlation) -> Figure | None:
    """Draw which regions come together and which exclude each other, over the maps of a set.

    Pairs that do not stand out from chance are drawn pale. None where fewer than two regions vary or there
    are fewer than three maps.

    Parameters
    ----------
    found : Correlation
        From `occupy.regions.choose.Correlation.of`.
    """
    count = len(found.regions)
    if count < 2 or found.maps < 3:
        return None
    tree = Tree.of_correlation(found.r)
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
    together, apart = found.pairs(3)
    if together:
        words.append("Together: " + "; ".join(f"{a} with {b} ({r:+.2f})" for a, b, r in together))
    if apart:
        words.append("Apart: " + "; ".join(f"{a} without {b} ({r:+.2f})" for a, b, r in apart))
    if found.constant:
        words.append(f"Left out because they hardly vary: {len(found.constant)}.")
    return words


def map_tree(table: OccupancyTable) -> Figure | None:
    """Draw how alike the maps of a set are: a tree by the typical difference in occupancy of a region.

    None for fewer than three maps.
    """
    if len(table.maps) < 3:
        return None
    tree = Tree.of(table.values.T)
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


def strip(table: OccupancyTable, column: int = 0) -> list[Figure]:
    """Draw the regions of one map as bars, the lowest first, with 95 % intervals where known."""
    values = table.values[:, column]
    order = np.argsort(np.nan_to_num(values, nan=np.inf), kind="stable").tolist()
    known, low, high = np.isfinite(table.errors[:, column]).any(), table.low, table.high
    longest = max(1.0, float(np.nan_to_num(values).max()))

    def draw(axes: Axes, rows: Sequence[int]) -> None:
        at, shown = np.arange(len(rows)), np.nan_to_num(values[rows])
        axes.barh(at, shown, height=0.8, color=_colours()(np.clip(shown, 0, 1)), lw=0)
        for colour, thick in (("white", 2.2), ("black", 0.9)) if known else ():
            axes.hlines(at, low[rows, column], high[rows, column], color=colour, lw=thick)
        axes.set_xlim(0, longest)

    title = f"{_title(table)} of {len(order)} regions in {plain(table.maps[column], 40)}"
    return _side_by_side(table, order, title, draw)


def _forest(table: OccupancyTable, column: int = 0) -> list[Figure]:
    """Draw occupancies by a joint fit with 95 % intervals in the table's order, readings as pale marks.

    Where the two differ beyond their errors, the region's name is bold.
    """
    title = f"Occupancy of {len(table.regions)} parts in {plain(table.maps[column])}, 95 % intervals"
    figures = _side_by_side(table, range(len(table.regions)), title, partial(_draw_forest, table, column))
    for figure in figures:
        _explain(figure)
    return figures


def set_forest(table: OccupancyTable) -> list[Figure]:
    """Draw the same of a set, maps beside each other, the parts that differ most first.

    In the order of the set; of more than eight maps the first eight in the order of the heat map. Parts are
    folded onto pages.
    """
    order, count = by_difference(table), len(table.maps)
    maps = list(range(count)) if count <= _PAGES else Tree.of(table.values.T).order[:_PAGES]
    down = _Labels.of(1, _ROW, _TALLEST)
    space, wide = _label_space(table.regions, down.size), max(1.2, min(2.6, 10.4 / len(maps)))
    folds, figures = [order[i : i + _FOLD] for i in range(0, len(order), _FOLD)][:_PAGES], []
    of = f"{len(table.maps)} maps" + (f" ({len(maps)} here)" if len(maps) < len(table.maps) else "")
    title = f"Occupancy of {len(table.regions)} parts in {of}, 95 % intervals (0 absent, 1 fully present)"
    for number, rows in enumerate(folds):
        page = Page.of(max(7.0, space + (wide + 0.15) * len(maps) + 0.2), down.cell * len(rows) + 1.6)
        page.text(0.2, 0.12, _numbered(title, [[each] for each in folds], number, len(order)), 10)
        for k, column in enumerate(maps):
            axes = page.axes(space + k * (wide + 0.15), 0.75, wide, down.cell * len(rows))
            down.put(axes.yaxis, [table.regions[i] if k == 0 else "" for i in rows])
            _draw_forest(table, int(column), axes, rows)
            _finish_rows(axes, len(rows))
            axes.set(xlabel="", xticks=[0, 0.5, 1])
            axes.set_title(_with_share(table, int(column)), size=8.5, loc="left")
        _explain(page.figure)
        figures.append(page.figure)
    return figures


def _draw_forest(table: OccupancyTable, column: int, axes: Axes, rows: Sequence[int]) -> None:
    """Draw occupancy ± 95 % and local scale of some parts in one map."""
    assert table.beside is not None
    read, at = table.beside.values[:, column], np.arange(len(rows))
    axes.plot(read[rows], at, "D", color="#c9c9c9", ms=5, mew=0, label="read at the atoms")
    axes.hlines(at, table.low[rows, column], table.high[rows, column], color="black", lw=1.2)
    axes.plot(table.values[rows, column], at, "o", color="black", ms=4, label="occupancy")
    for label, row in zip(axes.get_yticklabels(), rows, strict=False):
        # Of parts that are not the model's, only what was read is known.
        apart = any(table.beside.notes[row]) and read[row] != table.values[row, column]
        label.set_fontweight("bold" if apart else "normal")
    axes.set_xlim(-0.02, max(1.02, float(np.nanmax(table.beside.values, initial=1.0)) + 0.02))


def _explain(figure: Figure) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, fontsize=7.5, frameon=False)


def _finish_rows(axes: Axes, count: int) -> None:
    """Set what all rows of parts share: first row on top, an axis from absent to fully present."""
    axes.set_ylim(count - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, pad=2)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("0 absent, 1 fully present", size=8)


def _side_by_side(
    table: OccupancyTable, order: Sequence[int], title: str, draw: Callable[[Axes, Sequence[int]], None]
) -> list[Figure]:
    """Draw regions from 0 to 1, folded into columns: ``draw(axes, rows)`` does one."""
    down = _Labels.of(1, _ROW, _TALLEST)
    space, wide = _label_space(table.regions, down.size), 4.4 if len(order) <= _FOLD else 2.4
    pages, figures = _pages(order, space + wide + 0.2), []
    for number, folds in enumerate(pages):
        height = max(0.5, down.cell * len(folds[0]))
        page = Page.of((space + wide + 0.2) * len(folds), height + 1.3)
        page.text(0.2, 0.12, _numbered(title, pages, number, len(order)), 10 if len(folds) > 1 else 9.5)
        for k, rows in enumerate(folds):
            axes = page.axes(space + k * (space + wide + 0.2), 0.45, wide, height * len(rows) / len(folds[0]))
            down.put(axes.yaxis, [table.regions[i] for i in rows])
            draw(axes, rows)
            _finish_rows(axes, len(rows))
        figures.append(page.figure)
    return figures


def _set_figures(table: OccupancyTable) -> dict[str, list[Figure]]:
    """Return the figures that make sense for a table: what it shows → its pages."""
    if len(table.maps) == 1:
        return {"strip": strip(table)} | ({} if table.beside is None else {"forest": _forest(table)})
    single = {"correlation": _correlation_figure(Correlation.of(table)), "map_tree": map_tree(table)}
    fitted = {} if table.beside is None else {"forest": set_forest(table)}
    return (
        {"heat_map": heat_map(table)}
        | fitted
        | {name: [figure] for name, figure in single.items() if figure is not None}
    )


def write_set_figures(table: OccupancyTable, folder: Path, stem: str = "occupancy") -> dict[str, str]:
    """Write ``<stem>_<figure>.png``, ``.svg`` and ``.pdf``, each complete or not at all.

    Further pages are ``<stem>_<figure>_2.png`` and so on; the PDF holds all of them.

    Returns
    -------
    dict
        What → file name.
    """
    names: dict[str, str] = {}
    for what, pages in _set_figures(table).items():
        for number, figure in enumerate(pages, 1):
            name = what if number == 1 else f"{what}_{number}"
            names |= {name: f"{stem}_{name}.png", f"{name}_svg": f"{stem}_{name}.svg"}
            write_picture(folder / names[name], figure)
            write_picture(folder / names[f"{name}_svg"], figure)
        names[f"{what}_pdf"] = f"{stem}_{what}.pdf"
        write_pdf(folder / names[f"{what}_pdf"], pages)
    return names
