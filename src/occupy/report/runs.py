"""Several runs compared, for people: the verdict in words, tables, page, record, files of particles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from occupy.errors import Notice
from occupy.io.atomic import write_text
from occupy.report.canvas import new_figure
from occupy.report.html import Section, figure_png, heat_map, page, paragraph, table, verdict, write_page
from occupy.report.record import opening
from occupy.runs.agreement import contingency
from occupy.runs.compare import ClassSummary, Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from occupy.regions.table import OccupancyTable
    from occupy.runs.occupancies import Difference


_CLASSES = (
    "class", "particles", "share", "standard_error", "agreement", "found_in_runs", "told_apart",
    "mean_probability", "settled",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Judged:
    """What classes hold, by maps and by images.

    Attributes
    ----------
    by_maps, by_images : OccupancyTable or None
        Occupancy of regions, or parts, in the classes of the consensus.
    differences : tuple of Difference
        Between every two classes, of the occupancies by images, else by maps.
    """

    by_maps: OccupancyTable | None = None
    by_images: OccupancyTable | None = None
    differences: tuple[Difference, ...] = ()


def _p(value: float, draws: int) -> str:
    return f"p < {2 / (draws + 1):.2g}" if value <= 1 / (draws + 1) else f"p = {value:.2g}"


def summary_lines(found: Comparison) -> list[str]:
    """Return the result in words: agreement, how many classes, each of them, what never settles."""
    agreed = found.agreement
    chance = float(np.mean([pair.by_chance[0] for pair in agreed.pairs]))
    lines = [
        f"{len(found.runs)} runs of {len(found.entries.particle)} particles: agreement (ARI) "
        f"{agreed.index:.2f}, {abs(chance):.2f} by chance, {_p(agreed.p_value, agreed.draws)}",
        _count_line(found),
    ]
    if found.consensus.count > 1:
        lines += ["  class  particles         share  agreement  found in  p > 0.9  in the runs"]
        lines += [_class_line(found, one) for one in found.class_summaries()]
    lines += [_merge_line(found, one) for one in found.merges()]
    loose = int((~found.settled).sum())
    if found.consensus.count > 1:
        share = loose / len(found.settled)
        lines.append(f"{loose} particles ({share:.0%}) never settle: no class is more probable than not")
    return lines


def _count_line(found: Comparison) -> str:
    """Return how many classes are reproducible, in words."""
    count, had = found.consensus.count, found.consensus.candidates
    if count == 1:
        return "no classes are reproducible: the runs do not agree which particle is in which"
    lost = had - count
    more = f"; {lost} more of the {had} of a run {'is' if lost == 1 else 'are'} not" if lost else ""
    return f"{count} classes are reproducible{more}:"


def _class_line(found: Comparison, one: ClassSummary) -> str:
    sure = (found.consensus.labels == one.number - 1) & (found.consensus.probability > 0.9)
    where = " ".join("+".join(map(str, members)) or "–" for members in one.members)
    share = f"{one.share:.3f} ± {one.error:.3f}"
    return (
        f"  {one.number:<5}  {one.entries:<9}  {share:>12}  {one.agreement:>9.2f}  "
        f"{f'{one.found_in} of {len(found.runs)}':>8}  "
        f"{sure.sum() / max(one.entries, 1):>7.0%}  {where}"
    )


def _merge_line(found: Comparison, one: Any) -> str:
    classes = " and ".join(map(str, one.classes))
    return (
        f"  {classes} of {found.runs[one.run].name} are together in {one.one} of {found.runs[one.into].name}"
    )


def next_steps(found: Comparison, judged: Judged | None = None) -> list[str]:
    """Return what to do next, in words."""
    count = found.consensus.count
    if count == 1:
        significant = found.agreement.p_value < 0.01
        return [
            "the classes of one run do not come back in another: at most one run can be right, and nothing "
            "tells which" + (", although they agree a little more than by chance" if significant else ""),
            "try occupy in the loop (occupy relion class3d-command), a focused mask, or fewer classes; or "
            "these particles are of one state, as far as this can tell",
        ]
    steps = [
        f"class {each.first + 1} and class {each.second + 1} are copies: they differ in no part beyond "
        "errors; put them together"
        for each in (judged.differences if judged else ())
        if each.copies
    ]
    if all(len(run.classes) <= count for run in found.runs):
        steps.append(
            f"every class that the runs have is reproducible: there may be more than {count}; try a larger K"
        )
    elif found.consensus.candidates > count:
        steps.append(f"K = {count} is enough: further classes are divided by noise")
    steps.append("refine each class's particles on their own, with gold-standard halves (class_N files)")
    return steps


def best_number(found: Mapping[int, Comparison]) -> int:
    """Return the number of classes with the most reproducible ones; of several the smallest."""
    return min(found, key=lambda k: (-found[k].consensus.count, k))


def ladder_lines(found: Mapping[int, Comparison]) -> list[str]:
    """Return one line per number of classes, and which to take."""
    lines = ["   K  runs  agreement  by chance  reproducible"]
    for k, one in sorted(found.items()):
        chance = abs(float(np.mean([pair.by_chance[1] for pair in one.agreement.pairs])))
        count = one.consensus.count if one.consensus.count > 1 else "none"
        lines.append(
            f"  {k:>2}  {len(one.runs):>4}  {one.agreement.index:>9.2f}  {f'< {chance:.3f}':>9}  {count:>12}"
        )
    best = best_number(found)
    count = found[best].consensus.count
    if count == 1:
        lines.append("no number of classes gives any that come back")
    else:
        noise = best - count
        lines.append(
            f"take K = {best}: {count} classes come back"
            + (f", {noise} {'is' if noise == 1 else 'are'} divided by noise" if noise > 0 else "")
        )
    return lines


def _class_rows(found: Comparison) -> list[list[object]]:
    """One row per class of the consensus, then the classes of each run that belong to it."""
    return [
        [one.number, one.entries, one.share, one.error, one.agreement, one.found_in, one.distinct,
         one.probability, one.settled, *("+".join(map(str, members)) or "-" for members in one.members)]
        for one in found.class_summaries()
    ]  # fmt: skip


def _tsv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cell(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.4f}"
        return " ".join(str(value).split())

    return "\n".join(["\t".join(header), *("\t".join(map(cell, row)) for row in rows)]) + "\n"


def _pair_rows(found: Comparison) -> list[list[object]]:
    """One row per pair of runs: names, index, by chance, 95th percentile by chance, p."""
    return [
        [found.runs[p.first].name, found.runs[p.second].name, p.index, *p.by_chance, p.p_value]
        for p in found.agreement.pairs
    ]


def _match_rows(found: Comparison) -> list[list[object]]:
    """One row per class of a run and the class of another it is matched with; 0 where there is none left."""
    rows: list[list[object]] = []
    for p in found.agreement.pairs:
        one, other = found.runs[p.first], found.runs[p.second]
        for i, j in enumerate(p.partner.tolist()):
            common = int(p.table[i, j]) if j >= 0 else 0
            rows.append(
                [one.name, one.classes[i], other.name, other.classes[j] if j >= 0 else 0, common,
                 common / max(int(one.sizes[i]), 1), float(p.classes[i]), float(p.class_p_values[i])]
            )  # fmt: skip
    return rows


def _particle_text(found: Comparison, names: Sequence[object]) -> str:
    """Table of particles in the first run's order: class, probability, settled, class in each run."""
    runs = [np.asarray(run.classes)[run.labels].tolist() for run in found.runs]
    header = ["particle", "class", "probability", "settled", *(run.name for run in found.runs)]
    labels = (found.consensus.labels + 1).tolist()
    chance = [f"{p:.4f}" for p in found.consensus.probability.tolist()]
    settled = ["yes" if value else "no" for value in found.settled.tolist()]
    rows = zip(names, labels, chance, settled, *runs, strict=True)
    return "\n".join(["\t".join(header), *("\t".join(map(str, row)) for row in rows)]) + "\n"


def write_comparison_tables(folder: Path, found: Comparison, names: Sequence[object]) -> dict[str, str]:
    """Write the tables; return product → file name."""
    write_text(folder / "classes.tsv", _tsv([*_CLASSES, *(r.name for r in found.runs)], _class_rows(found)))
    header = ("run", "other", "ari", "by_chance", "by_chance_95", "p_value")
    write_text(folder / "agreement.tsv", _tsv(header, _pair_rows(found)))
    columns = ("run", "class", "other", "its_class", "common", "share", "agreement", "p_value")
    write_text(folder / "matches.tsv", _tsv(columns, _match_rows(found)))
    write_text(folder / "particles.tsv", _particle_text(found, names))
    return {
        "classes": "classes.tsv",
        "agreement": "agreement.tsv",
        "matches": "matches.tsv",
        "particles": "particles.tsv",
    }


def _difference_rows(judged: Judged) -> list[list[object]]:
    """One row per pair of classes: the part that differs most, and whether they are copies."""
    source = judged.by_images or judged.by_maps
    names = () if source is None else source.regions
    return [
        [each.first + 1, each.second + 1, names[each.part], each.difference, each.error,
         "yes" if each.copies else "no"]
        for each in judged.differences
    ]  # fmt: skip


def write_judged(folder: Path, judged: Judged) -> dict[str, str]:
    """Write what classes hold; return product → file name."""
    from occupy.report.tables import write_tables

    files: dict[str, str] = {}
    for product, found in (("occupancies by maps", judged.by_maps), ("by images", judged.by_images)):
        if found is not None:
            stem = "occupancy" if found is judged.by_maps else "occupancy_by_images"
            files[product] = write_tables(folder, found, stem)["tsv"]
    if judged.differences:
        header = ("class", "other", "differs_most_in", "difference", "standard_error", "copies")
        write_text(folder / "differences.tsv", _tsv(header, _difference_rows(judged)))
        files["differences"] = "differences.tsv"
    return files


def write_comparison_page(path: Path, found: Comparison, notices: Sequence[Notice], judged: Judged) -> Path:
    """Write the page: verdict, flow of particles between runs, tables."""
    steps = next_steps(found, judged)
    opening = verdict(
        notices,
        bad=_count_line(found).capitalize() + "." if found.consensus.count == 1 else "",
        good=f"{found.consensus.count} classes are reproducible.",
    )
    names = [run.name for run in found.runs]
    first = len(_CLASSES)
    rows = [
        [row[0], row[1], f"{row[2]:.3f}\u00a0±\u00a0{row[3]:.3f}", f"{row[4]:.2f}", row[5],
         *(f"{value:.2f}" for value in row[6:8]), row[8], " | ".join(map(str, row[first:]))]
        for row in _class_rows(found)
    ]  # fmt: skip
    header = (
        "class", "particles", "share", "agreement", "found in", "told apart", "mean probability", "settled",
        "in the runs",
    )  # fmt: skip
    pairs = [[*row[:2], *(f"{value:.3f}" for value in row[2:])] for row in _pair_rows(found)]
    sections = [
        Section("In words", "".join(paragraph(f"{step[:1].upper()}{step[1:]}.") for step in steps)),
        Section("Classes", paragraph(_READING) + table(rows, header)),
        Section("From run to run", figure_png(flow_figure(found), _FLOW)),
        Section("Agreement", table(pairs, ("run", "other", "ARI", "by chance", "95 % by chance", "p"))),
    ]
    sections += _judged_sections(judged)
    count = f"{len(found.entries.particle)} particles in {len(names)} runs: {', '.join(names)}"
    return write_page(path, page("Which classes are real", count, opening, sections))


_READING = (
    "Agreement is on membership of the class between the two runs that agree best, beyond chance (kappa: 1 "
    "always, 0 as by chance); told apart is the same between the class and the one it is most confused with. "
    "Probability is that of a particle's class, by what all runs say of it. The last column has the "
    "numbers of the runs' own classes."
)
_FLOW = "Particles (height) in the classes of each run; colours are the classes of the consensus"


def _judged_sections(judged: Judged) -> list[Section]:
    out = []
    for title, found in (("by the maps", judged.by_maps), ("by single particles", judged.by_images)):
        if found is not None:
            out.append(
                Section(
                    f"What classes hold, {title}",
                    heat_map(found.regions, found.maps, found.values.tolist(), "Occupancy of each part"),
                )
            )
    if judged.differences:
        rows = [
            [f"{row[0]} and {row[1]}", row[2], f"{row[3]:+.2f} ± {row[4]:.2f}", row[5]]
            for row in _difference_rows(judged)
        ]
        header = ("classes", "differ most in", "by", "copies")
        out.append(Section("Which classes are copies", table(rows, header)))
    return out


def comparison_record(
    found: Comparison,
    judged: Judged,
    *,
    notices: Sequence[Notice],
    inputs: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    outputs: Mapping[str, str],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return the record as plain values."""
    return {
        **opening(command, "runs"),
        "inputs": list(inputs), "options": dict(options),
        "numbers": {
            "entries": len(found.entries.particle), "particles": found.entries.count,
            "ari": found.agreement.index, "p_value": found.agreement.p_value,
            "random_partitions": found.agreement.draws,
            "least_distinct": found.rules.least_distinct,
            "reproducible_classes": found.consensus.count, "candidates": found.consensus.candidates,
            "settled": int(found.settled.sum()),
            "classes": [dict(zip(_CLASSES, row, strict=False)) for row in _class_rows(found)],
            "pairs": [dict(zip(("run", "other", "ari", "by_chance", "by_chance_95", "p_value"), row,
                               strict=True)) for row in _pair_rows(found)],
            "copies": [[row[0], row[1]] for row in _difference_rows(judged) if row[5] == "yes"],
        },
        "next": next_steps(found, judged),
        "notices": [asdict(notice) for notice in notices],
        "outputs": dict(outputs),
    }  # fmt: skip


# Okabe & Ito's colours, told apart in every kind of sight; what never settles is grey.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7a5195")
_LOOSE = "#b9bec5"
_BAR, _GAP = 0.09, 0.02


def flow_figure(found: Comparison) -> Figure:
    """Bars of classes for each run, and bands of the particles that go from one to the next.

    Classes of a run stand in the order of the consensus classes they belong to; a band of another colour than
    its bar is of particles that changed their class.
    """
    figure = new_figure(min(2.6 + 2.0 * len(found.runs), 16), 5, layout="constrained", dpi=100)
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
