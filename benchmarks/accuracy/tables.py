"""Tables of what was measured: CSV for programs, Markdown for people."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.accuracy.measure import Result
from benchmarks.accuracy.published import TILES
from benchmarks.accuracy.scoring import summarise

COLUMNS = {
    "mae": "MAE near",
    "mae_atoms": "MAE at atoms",
    "bias": "bias",
    "mae_partial": "MAE partial",
    "at_zero": "reads at true 0",
    "error_at_one": "error at true 1",
    "mae_b0": "MAE, B + 0",
    "mae_b150": "MAE, B + 150",
    "factor_b0": "factor, B + 0",
    "factor_b150": "factor, B + 150",
    "solvent": "solvent reads",
    "cover68": "cover 68",
    "cover95": "cover 95",
    "width95": "width 95",
    "seconds": "s",
}
SIGNED = ("bias", "error_at_one")
POOLED = ("units", "cover68", "cover95", "width95")


def per_map(result: Result) -> dict[str, float]:
    """Return the numbers of one estimator on one map."""
    return summarise(result.units) | {"solvent": result.solvent, "seconds": result.seconds}


def over_maps(results: Sequence[Result]) -> dict[str, float]:
    """Return the numbers over several maps: means in which each map counts once, however many chains it has.

    Only the coverage and the width of error bars are taken over all units together.
    """
    pooled = summarise([unit for result in results for unit in result.units])
    each = [per_map(result) for result in results]
    for name in each[0]:
        if name not in POOLED:
            values = [numbers[name] for numbers in each if math.isfinite(numbers[name])]
            pooled[name] = float(np.mean(values)) if values else math.nan
    return pooled


def select(results: Iterable[Result], **wanted: str) -> list[Result]:
    """Return results of an estimator, half or model."""
    found = list(results)
    if "estimator" in wanted:
        found = [r for r in found if r.estimator == wanted["estimator"]]
    for name in ("half", "model"):
        if name in wanted:
            found = [r for r in found if getattr(r.sample, name) == wanted[name]]
    return found


def names_of(results: Iterable[Result], what: Callable[[Result], str]) -> list[str]:
    """Return what occurs, each once, in order."""
    return list(dict.fromkeys(what(result) for result in results))


def write_numbers(path: Path, results: Sequence[Result]) -> None:
    """Write one row per map and estimator, then the means per model and half, as CSV."""
    names = list(per_map(results[0]))
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["level", "half", "model", "map", "remark", "estimator", *names])
        for r in results:
            cells = [f"{value:.5g}" for value in per_map(r).values()]
            s = r.sample
            writer.writerow(["map", s.half, s.model, s.name, s.remark, r.estimator, *cells])
        for half in names_of(results, lambda r: r.sample.half):
            models = names_of(select(results, half=half), lambda r: r.sample.model)
            for model in [*models, ""]:
                chosen = select(results, half=half, **({"model": model} if model else {}))
                for estimator in names_of(chosen, lambda r: r.estimator):
                    numbers = over_maps(select(chosen, estimator=estimator))
                    cells = [f"{numbers[name]:.5g}" for name in names]
                    level = "model" if model else "half"
                    writer.writerow([level, half, model, "", "", estimator, *cells])


def cell(name: str, value: float) -> str:
    """Return a number for people."""
    if not math.isfinite(value):
        return "–"
    if name == "seconds":
        return f"{value:.2f}"
    return f"{value:+.3f}" if name in SIGNED else f"{value:.3f}"


def table(results: Sequence[Result], columns: Sequence[str]) -> list[str]:
    """Return a Markdown table with one row per estimator."""
    lines = [
        "| estimator | " + " | ".join(COLUMNS[c] for c in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for estimator in names_of(results, lambda r: r.estimator):
        numbers = over_maps(select(results, estimator=estimator))
        lines.append(f"| {estimator} | " + " | ".join(cell(c, numbers[c]) for c in columns) + " |")
    return lines


def by_model(results: Sequence[Result]) -> list[str]:
    """Return a Markdown table of the MAE near the atoms: estimators by models, then ratios.

    The ratio is to the published estimator at the better of its two tiles, for the mean over the maps; and in
    the last column the worst such ratio of any model.
    """
    models = names_of(results, lambda r: r.sample.model)
    lines = [
        "| estimator | " + " | ".join(models) + " | ratio | worst model |",
        "|---" * (len(models) + 3) + "|",
    ]
    best = {model: best_published(select(results, model=model)) for model in models}
    overall = best_published(results)
    for estimator in names_of(results, lambda r: r.estimator):
        mine = select(results, estimator=estimator)
        values = {model: over_maps(select(mine, model=model))["mae"] for model in models}
        ratio = over_maps(mine)["mae"] / overall
        worst = max(values[model] / best[model] for model in models)
        cells = [f"{values[model]:.3f}" for model in models] + [
            f"{r:.2f}" if math.isfinite(r) else "–" for r in (ratio, worst)
        ]
        lines.append(f"| {estimator} | " + " | ".join(cells) + " |")
    return lines


def best_published(results: Sequence[Result]) -> float:
    """Return the smaller MAE of the published estimator's two settings; NaN where it was not run."""
    found = [select(results, estimator=name) for name in TILES]
    return min((over_maps(chosen)["mae"] for chosen in found if chosen), default=math.nan)


def markdown(results: Sequence[Result]) -> str:
    """Return all tables."""
    lines: list[str] = []
    first = ("mae", "mae_atoms", "bias", "mae_partial", "at_zero", "error_at_one", "solvent", "seconds")
    second = ("mae_b0", "mae_b150", "factor_b0", "factor_b150", "cover68", "cover95", "width95")
    for half in names_of(results, lambda r: r.sample.half):
        chosen = select(results, half=half)
        count = len(names_of(chosen, lambda r: r.sample.name))
        lines += [f"## {half}: {count} maps", "", *table(chosen, first), ""]
        if half != "relion_50s":
            lines += [*table(chosen, second), ""]
        lines += ["MAE near the atoms by model:", "", *by_model(chosen), ""]
    return "\n".join(lines)
