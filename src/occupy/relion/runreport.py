"""What particles and classes did in a Class3D job with occupy in its loop: table, picture and warnings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from occupy.errors import InputError, Notice, OccupyError
from occupy.io.atomic import atomic_file, write_text
from occupy.io.loop import FOLDER, ReconstructionCall, read_calls
from occupy.io.star import read_star
from occupy.relion.separation import LOOP
from occupy.report.record import to_json
from occupy.runs.agreement import adjusted_rand


def write_run_report(job: Path) -> tuple[list[Path], list[Notice]]:
    """Write classes.tsv, classes.json and classes.png into the job's ``occupy_relion`` folder.

    Returns
    -------
    written : list of Path
        The files.
    notices : list of Notice
        What makes the result doubtful.
    """
    if not job.is_dir():
        raise InputError(f"{job}: no such folder; give the folder of a Class3D job")
    folder = job / FOLDER
    calls, found = read_calls(folder), _class_iterations(job)
    notices = _run_warnings(found, calls)
    paths = [folder / f"classes.{suffix}" for suffix in ("tsv", "json", "png")]
    write_text(paths[0], _table(found, calls))
    record = {
        "iterations": [asdict(one) for one in found],
        "calls": calls,
        "notices": [asdict(notice) for notice in notices],
    }
    write_text(paths[1], to_json(record))
    _draw(paths[2], found, calls)
    return paths, notices


def is_last(call: ReconstructionCall) -> bool:
    """Tell whether a call that was just noted is the last one of its iteration.

    It is where every class (and half-set) of the iteration before is noted in this one too: classes can be
    empty, or reconstructed at the same time.
    """
    calls = read_calls(call.star.parent / FOLDER)
    now, before = (
        {(one["half"], one["class"]) for one in calls if one["iteration"] == number}
        for number in (call.iteration, call.iteration - 1)
    )
    return before <= now


def _draw_class(own: Any, energy: Any, mine: list[dict[str, Any]]) -> None:
    steps = [call["iteration"] for call in mine]
    own.plot(steps, [100 * call["own"] for call in mine], ".-")
    energy.plot(steps, [_energy_per_particle(call) for call in mine], ".-")


def _draw(path: Path, found: list[_ClassIteration], calls: list[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    sizes, own, energy, steady = figure.subplots(2, 2).flat
    numbers = [i.number for i in found]
    for k in sorted({call["class"] for call in calls}):
        sizes.plot(numbers, [i.share(k) for i in found], ".-", label=f"class {k}")
        mine = [call for call in calls if call["class"] == k and call.get("own") is not None]
        _draw_class(own, energy, mine)
    steady.plot(numbers, [i.certainty for i in found], ".-", color="0.3", label="largest probability")
    later = {i.number: i.stability for i in found if i.stability is not None}
    steady.plot(list(later), list(later.values()), ".-", color="C3", label="ARI to the last one")
    steady.set(ylim=(-0.05, 1.05), title="Certainty and stability")
    for axes, title in (
        (sizes, "Share of each class, by probability"),
        (own, "Own part, % of the shared part"),
        (energy, "Own part's energy per particle (noise = 1)"),
    ):
        axes.set(title=title, ylim=(0, None))
    for axes in (sizes, own, energy, steady):
        axes.set_xlabel("iteration")
    sizes.legend(fontsize="small")
    steady.legend(fontsize="small")
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=110)


_DATA = re.compile(r".*_it(\d+)_data\.star")


@dataclass(frozen=True)
class _ClassIteration:
    """What the particles did in one iteration.

    Attributes
    ----------
    number : int
        Of the iteration.
    sizes : dict of int to int
        Particles per class, by their most likely class (hard).
    shares : dict of int to float
        Share of each class, by probability (soft): what its map is made of. Empty where the model.star of the
        iteration is not there (yet).
    certainty : float
        Mean of each particle's largest class probability.
    stability : float or None
        Adjusted Rand index to the iteration before.
    """

    number: int
    sizes: dict[int, int]
    shares: dict[int, float]
    certainty: float
    stability: float | None

    def share(self, number: int) -> float | None:
        """Return the share of a class, by probability where that is known, else by assignment."""
        if self.shares:
            return self.shares.get(number)
        return self.sizes.get(number, 0) / max(sum(self.sizes.values()), 1)


def _class_iterations(job: Path) -> list[_ClassIteration]:
    """Read what the particles did from the job's data.star files; unreadable ones are left out."""
    found: list[_ClassIteration] = []
    last: dict[str, str] = {}
    files = [(int(m[1]), path) for path in job.iterdir() if (m := _DATA.fullmatch(path.name)) and int(m[1])]
    for number, path in sorted(files):
        try:
            columns = ("rlnImageName", "rlnClassNumber", "rlnMaxValueProbDistribution")
            particles = read_star(path, columns=columns)["particles"]
            names, classes = particles.column("rlnImageName"), particles.column("rlnClassNumber")
            certainty = particles.numbers("rlnMaxValueProbDistribution")
        except (OccupyError, KeyError):
            continue
        now = dict(zip(names, classes, strict=True))
        sizes = {int(k): n for k, n in sorted(Counter(classes).items())}
        mean = sum(certainty) / max(len(certainty), 1)
        found.append(_ClassIteration(number, sizes, _shares(path), mean, _stability(now, last)))
        last = now
    return found


def _stability(now: Mapping[str, str], last: Mapping[str, str]) -> float | None:
    """Return the agreement of two iterations over the particles in both; None where there are none."""
    both = [name for name in now if name in last]
    return adjusted_rand([now[n] for n in both], [last[n] for n in both]) if both else None


def _shares(data: Path) -> dict[int, float]:
    """Read the classes' shares by probability from the model.star beside a data.star."""
    model = data.with_name(data.name.removesuffix("_data.star") + "_model.star")
    try:
        distribution = read_star(model, columns=("rlnClassDistribution",))["model_classes"]
        return dict(enumerate(distribution.numbers("rlnClassDistribution"), 1))
    except (OccupyError, KeyError):
        return {}


def _run_warnings(found: Sequence[_ClassIteration], calls: Sequence[dict[str, Any]]) -> list[Notice]:
    """Tell what makes the result of a run doubtful, and what to change."""
    notices = [*_collapse(found[-1], calls), *_unsteady(found)] if found and calls else []
    notices += _self_bias(calls)
    if not any(call.get("state") == "separated" for call in calls):
        notices.append(Notice("not-separated", "RELION's own maps were used throughout; see run.out for why"))
    return notices


def _collapse(last: _ClassIteration, calls: Sequence[dict[str, Any]]) -> list[Notice]:
    classes = max(call["class"] for call in calls)
    small = [k for k in range(1, classes + 1) if (last.share(k) or 0) < LOOP.smallest_share / classes]
    if not small:
        return []
    names = ", ".join(map(str, small))
    text = f"classes collapsed: {names} hold next to no particles; use fewer classes, or another seed"
    return [Notice("collapse", text)]


def _unsteady(found: Sequence[_ClassIteration]) -> list[Notice]:
    last = found[-1].stability
    if len(found) <= 5 or last is None or last >= 0.8:
        return []
    text = f"not converged: ARI to the iteration before is {last:.2f}; run more iterations"
    return [Notice("not-converged", text)]


def _self_bias(calls: Sequence[dict[str, Any]]) -> list[Notice]:
    """Warn where the own parts of the last iteration are not above what noise gives.

    Particles that follow their own noise gain about as much as the fit has freedom: the energy of the own
    part per particle then is of the order of one, below what tells two states apart.
    """
    last = max((call["iteration"] for call in calls), default=0)
    found = [_energy_per_particle(call) for call in calls if call["iteration"] == last]
    ratios = [ratio for ratio in found if ratio is not None]
    if ratios and max(ratios) < LOOP.least_energy:
        text = (
            f"self-bias: no class has an own part of more than {max(ratios):.1f} noise units per particle, "
            "which noise alone can give: not significant; use fewer classes, more particles, or a "
            "coarser limit (--strict_highres_exp)"
        )
        return [Notice("self-bias", text)]
    return []


def _table(found: Sequence[_ClassIteration], calls: Sequence[dict[str, Any]]) -> str:
    """Return the run as tab-separated text, one row per iteration and class."""
    rows = ["\t".join(_COLUMNS)]
    particles = {one.number: one for one in found}
    for call in calls:
        values = _row(call, particles.get(call["iteration"]))
        rows.append("\t".join("" if value is None else str(value) for value in values))
    return "\n".join(rows) + "\n"


_COLUMNS = (
    "iteration", "class", "particles", "share", "certainty", "stability", "own", "strength", "energy",
    "significant", "state",
)  # fmt: skip


def _row(call: dict[str, Any], one: _ClassIteration | None) -> list[Any]:
    """Return one row of the table, None where nothing is known."""
    row: list[Any] = [call["iteration"], call["class"]]
    if one is None:
        row += [None] * 4
    else:
        stability = None if one.stability is None else round(one.stability, 4)
        share = one.share(call["class"])
        row += [one.sizes.get(call["class"], 0), None if share is None else round(share, 4)]
        row += [round(one.certainty, 4), stability]
    row += [call.get("own"), call.get("strength")]
    energy = _energy_per_particle(call)
    row += (
        [None, None] if energy is None else [round(energy, 3), "yes" if energy >= LOOP.least_energy else "no"]
    )
    return [*row, call.get("state")]


def _energy_per_particle(call: dict[str, Any]) -> float | None:
    """Return the energy of a class's own part per particle in it, in units of the noise."""
    energy, particles = call.get("energy"), call.get("particles")
    return None if energy is None or particles is None else energy / max(particles, 1.0)
