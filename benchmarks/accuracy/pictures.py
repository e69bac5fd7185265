"""Pictures of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.accuracy.measure import Result
from benchmarks.accuracy.tables import names_of, over_maps, select


def scatter(path: Path, results: Sequence[Result], title: str) -> None:
    """Draw estimate against truth, one panel per estimator; chains with 150 Å² on top are hollow."""
    from matplotlib.figure import Figure

    names = names_of(results, lambda r: r.estimator)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.9 * columns, 3.0 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    models = names_of(results, lambda r: r.sample.model)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, zorder=0)
        for k, model in enumerate(models):
            units = [u for r in select(results, estimator=name, model=model) for u in r.units]
            for trapped in (False, True):
                chosen = [u for u in units if (u.b_factor > 0) == trapped]
                face = "none" if trapped else f"C{k}"
                label = model if not trapped else None
                xy = np.array([(u.truth, u.near) for u in chosen]).reshape(-1, 2)
                axis.scatter(*xy.T, s=11, facecolors=face, edgecolors=f"C{k}", linewidths=0.8, label=label)
        axis.set_title(f"{name}: {over_maps(select(results, estimator=name))['mae']:.3f}", fontsize=9)
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    figure.supxlabel("true occupancy", fontsize=9)
    figure.supylabel("estimate near the atoms", fontsize=9)
    figure.suptitle(f"{title}; number: mean absolute error; hollow: 150 Å² on top", fontsize=9)
    axes.flat[0].legend(fontsize=7, loc="upper left", handletextpad=0.1, borderpad=0.2)
    figure.savefig(path, dpi=130)


def bars(path: Path, results: Sequence[Result], title: str) -> None:
    """Draw the mean absolute error by model and estimator."""
    from matplotlib.figure import Figure

    names = names_of(results, lambda r: r.estimator)
    models = names_of(results, lambda r: r.sample.model)
    figure = Figure(figsize=(2.2 + 1.5 * (len(models) + 1), 3.8), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        mine = select(results, estimator=name)
        values = [over_maps(select(mine, model=model))["mae"] for model in models] + [over_maps(mine)["mae"]]
        at = np.arange(len(values)) + (k - (len(names) - 1) / 2) * width
        axis.bar(at, values, width * 0.92, label=name, color=f"C{k}")
    axis.set_xticks(range(len(models) + 1), [*models, "mean over maps"])
    axis.set_ylabel("mean absolute error near atoms")
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", fontsize=8, ncols=len(names), columnspacing=1, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def draw_all(folder: Path, results: Sequence[Result]) -> list[Path]:
    """Draw both pictures for every half."""
    drawn = []
    for half in names_of(results, lambda r: r.sample.half):
        chosen = select(results, half=half)
        for kind, draw in (("scatter", scatter), ("bars", bars)):
            path = folder / f"{half}_{kind}.png"
            draw(path, chosen, f"{half}, {len(names_of(chosen, lambda r: r.sample.name))} maps")
            drawn.append(path)
    return drawn
