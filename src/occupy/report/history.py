"""Occupancies of regions and shares of classes, iteration by iteration, as tables and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.atomic import write_text
from occupy.io.tables import csv_text, read_rows
from occupy.regions.table import OccupancyTable
from occupy.report.canvas import new_figure, plain, write_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REGIONS = ("iteration", "region", "class", "occupancy", "standard_error")
_CLASSES = ("iteration", "class", "share_by_probability", "particles")
_COLUMNS = 3

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Step:
    """What one iteration says.

    Attributes
    ----------
    iteration : int
        Its number.
    table : OccupancyTable
        Occupancy of R regions in K classes; ``weights`` are the shares by probability (soft).
    particles : tuple of int or None
        Particles assigned to each of the K classes (hard).
    """

    iteration: int
    table: OccupancyTable
    particles: tuple[int | None, ...]

    def line(self) -> str:
        """Return a line for people: shares, how many regions differ, and which most."""
        table = self.table
        shares = ", ".join("–" if math.isnan(w) else f"{100 * w:.1f}" for w in table.weights)
        text = f"iteration {self.iteration}: classes {shares} %"
        found = _difference(table)
        if not np.isfinite(found.spread).any():
            return text
        if found.significant is not None:
            text += f"; {found.significant} of {len(table.regions)} regions differ"
        row = int(np.nanargmax(found.spread))
        values = table.values[row]
        low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
        return text + (
            f"; most {table.regions[row]}: {values[low]:.2f} ({table.maps[low]}) to "
            f"{values[high]:.2f} ({table.maps[high]})"
        )


@dataclass(frozen=True)
class _Difference:
    """How far classes differ in one iteration.

    Attributes
    ----------
    spread : ndarray of float64, shape (R,)
        Highest minus lowest occupancy of each region; NaN where not known.
    significant : int or None
        Regions whose highest and lowest differ at the 5 % level, corrected for the number of pairs of
        classes and of regions; None where errors are not known.
    """

    spread: Numbers
    significant: int | None


def _difference(table: OccupancyTable) -> _Difference:
    """Tell how far the classes of a table differ."""
    regions, classes = table.values.shape
    known = np.isfinite(table.values)
    high = np.where(known, table.values, -np.inf).argmax(axis=1)
    low = np.where(known, table.values, np.inf).argmin(axis=1)
    rows = np.arange(regions)
    spread = np.where(known.any(axis=1), table.values[rows, high] - table.values[rows, low], np.nan)
    error = np.hypot(table.errors[rows, high], table.errors[rows, low])
    if not np.isfinite(error).any():
        return _Difference(spread, None)
    trials = max(regions * classes * (classes - 1) / 2, 1)
    limit = NormalDist().inv_cdf(1 - 0.05 / 2 / trials)
    return _Difference(spread, int((spread > limit * error).sum()))


# --- tables -------------------------------------------------------------------------------------------


def _text(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4f}"


def write_history(folder: Path, steps: Sequence[Step]) -> dict[str, str]:
    """Write ``history.csv``, ``history_classes.csv`` and ``history.png``; return product → file name."""
    regions = (
        (s.iteration, region, name, _text(s.table.values[row, k]), _text(s.table.errors[row, k]))
        for s in steps
        for row, region in enumerate(s.table.regions)
        for k, name in enumerate(s.table.maps)
    )
    classes = (
        (s.iteration, name, _text(share), "" if count is None else count)
        for s in steps
        for name, share, count in zip(s.table.maps, s.table.weights.tolist(), s.particles, strict=True)
    )
    write_text(folder / "history.csv", csv_text(_REGIONS, regions))
    write_text(folder / "history_classes.csv", csv_text(_CLASSES, classes))
    write_picture(folder / "history.png", _history_figure(steps), dpi=100, metadata={"Software": None})
    return {"regions": "history.csv", "classes": "history_classes.csv", "figure": "history.png"}


def read_history(folder: Path) -> list[Step]:
    """Read what `write_history` wrote; InputError where it is missing or damaged."""
    regions = _rows(folder / "history.csv", _REGIONS)
    classes = _rows(folder / "history_classes.csv", _CLASSES)
    try:
        return [
            _step(number, [r for r in regions if int(r["iteration"]) == number], rows)
            for number, rows in _by_iteration(classes).items()
        ]
    except (KeyError, ValueError) as error:
        raise InputError(f"{folder}: history.csv is damaged ({error}); remove it to start anew") from error


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    wrong = "not a history; remove it to start anew"
    table = read_rows(path, lambda header: None if header == tuple(columns) else wrong)
    return [{name: cell or "" for name, cell in row.items()} for _, row in table.rows]


def _by_iteration(rows: Sequence[dict[str, str]]) -> dict[int, list[dict[str, str]]]:
    found: dict[int, list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault(int(row["iteration"]), []).append(row)
    return found


def _step(number: int, regions: Sequence[Mapping[str, str]], classes: Sequence[Mapping[str, str]]) -> Step:
    maps = tuple(row["class"] for row in classes)
    names = tuple(dict.fromkeys(row["region"] for row in regions))
    cells = {(row["region"], row["class"]): row for row in regions}

    def grid(column: str) -> list[list[float]]:
        return [[float(cells[region, name][column] or "nan") for name in maps] for region in names]

    unknown = np.full(len(names), np.nan)
    weights = np.array([float(row["share_by_probability"] or "nan") for row in classes])
    table = OccupancyTable(
        names, maps, np.array(grid("occupancy")), np.array(grid("standard_error")), unknown, unknown, weights
    )
    return Step(number, table, tuple(int(row["particles"]) if row["particles"] else None for row in classes))


# --- picture ------------------------------------------------------------------------------------------


def _shown_regions(steps: Sequence[Step]) -> list[str]:
    """Return the regions to draw: those in which the classes of the last iteration differ most."""
    table = steps[-1].table
    spread = np.nan_to_num(_difference(table).spread, nan=-1.0)
    return [table.regions[row] for row in np.argsort(-spread, kind="stable")[:10]]


def _history_figure(steps: Sequence[Step]) -> Figure:
    """Draw shares of classes, how far they differ, and the regions that differ most, against iteration."""
    regions = _shown_regions(steps)
    rows = math.ceil((2 + len(regions)) / _COLUMNS)
    height = 1.1 + 2.3 * rows
    figure = new_figure(11, height, dpi=100)
    # A layout engine would take longer than everything else here.
    figure.subplots_adjust(
        left=0.05, right=0.98, bottom=0.65 / height, top=1 - 0.65 / height, hspace=0.4, wspace=0.2
    )
    axes = list(np.ravel(figure.subplots(rows, _COLUMNS, squeeze=False)))
    classes = list(dict.fromkeys(name for step in steps for name in step.table.maps))
    colours = dict(zip(classes, _colours(len(classes)), strict=True))
    _draw_shares(axes[0], steps, colours)
    _draw_difference(axes[1], steps)
    for ax, region in zip(axes[2:], regions, strict=False):
        _draw_region(ax, steps, region, colours)
    for ax in axes[: 2 + len(regions)]:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
        ax.locator_params(axis="x", integer=True, nbins=8)
    for ax in axes[2 + len(regions) :]:
        ax.set_axis_off()
    last = steps[-1]
    figure.suptitle(
        f"Up to iteration {last.iteration}: regions in which classes differ most (bands: standard errors)",
        size=11,
    )
    handles = [ax for ax in axes[0].get_lines() if not str(ax.get_label()).startswith("_")][:12]
    figure.legend(handles=handles, loc="lower center", ncols=6, fontsize=8, frameon=False)
    return figure


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    table = colormaps["tab10" if count <= 10 else "turbo"]
    return [table(i) if count <= 10 else table(i / (count - 1)) for i in range(count)]


def _series(steps: Sequence[Step], name: str, values: Mapping[int, Numbers]) -> tuple[list[int], list[float]]:
    """Return iterations and one class's values."""
    found = [
        (s.iteration, values[s.iteration][s.table.maps.index(name)]) for s in steps if name in s.table.maps
    ]
    return [x for x, _ in found], [float(y) for _, y in found]


def _draw_shares(ax: Axes, steps: Sequence[Step], colours: Mapping[str, Any]) -> None:
    soft = {step.iteration: 100 * step.table.weights for step in steps}
    counts = {s.iteration: np.array([math.nan if n is None else n for n in s.particles]) for s in steps}
    hard = {i: 100 * n / n.sum() if np.nansum(n) else n for i, n in counts.items()}
    for name, colour in colours.items():
        ax.plot(*_series(steps, name, soft), "o-", ms=2.5, lw=1.3, color=colour, label=name)
        ax.plot(*_series(steps, name, hard), ":", lw=1.0, color=colour)
    ax.set_ylim(bottom=0)
    ax.set_title("share of particles, % (dotted: assigned)", size=9)


def _draw_difference(ax: Axes, steps: Sequence[Step]) -> None:
    found = [_difference(step.table) for step in steps]
    spreads = [d.spread[np.isfinite(d.spread)] for d in found]
    numbers = [step.iteration for step in steps]
    ax.plot(numbers, [s.max() if s.size else math.nan for s in spreads], "ko-", ms=2.5, lw=1.3, label="_")
    ax.plot(numbers, [s.mean() if s.size else math.nan for s in spreads], "k:", lw=1.0, label="_")
    ax.set_ylim(0, 1.05)
    ax.set_title("largest difference of classes (dotted: mean)", size=9)
    significant = found[-1].significant
    if significant is not None:
        text = f"{significant} of {len(steps[-1].table.regions)} regions differ"
        ax.text(0.03, 0.92, text, transform=ax.transAxes, size=8, va="top")


def _draw_region(ax: Axes, steps: Sequence[Step], region: str, colours: Mapping[str, Any]) -> None:
    rows = {s.iteration: s.table.regions.index(region) for s in steps if region in s.table.regions}
    having = [step for step in steps if step.iteration in rows]
    values = {s.iteration: s.table.values[rows[s.iteration]] for s in having}
    errors = {s.iteration: s.table.errors[rows[s.iteration]] for s in having}
    for name, colour in colours.items():
        x, y = _series(having, name, values)
        _, e = _series(having, name, errors)
        ax.plot(x, y, "o-", ms=2.5, lw=1.3, color=colour)
        low, high = np.array(y) - np.array(e), np.array(y) + np.array(e)
        ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    ax.set_ylim(-0.05, 1.1)
    ax.set_title(plain(region, 32), size=9)
