"""The record of a run: what was done to each class, and what the particles did."""

from __future__ import annotations

import errno
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occupy.errors import Notice, OccupyError
from occupy.io.atomic import explain, make_folder
from occupy.io.exchange import Exchange
from occupy.io.loop import RECORD
from occupy.io.star import read_star

SMALLEST_SHARE = 0.05
"""A class with a smaller share of an even split than this is called empty."""

LEAST_ENERGY = 2.5
"""Energy of an own part per particle, in units of the noise, below which it is not called significant: on
simulated homogeneous particles it stayed below this, on heterogeneous ones it was above."""

_DATA = re.compile(r".*_it(\d+)_data\.star")


def note(folder: Path, call: Exchange, values: dict[str, Any]) -> None:
    """Append one line to the record; lines of concurrent calls do not mix.

    Raises
    ------
    OutputError
        Where the line could not be written whole.
    """
    head = {"iteration": call.iteration, "half": call.half, "class": call.number}
    path = make_folder(folder) / RECORD
    try:
        _append(path, strict_json(head | values).encode() + b"\n")
    except OSError as error:
        raise explain(error, path) from error


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        # What a full disk cut short must not swallow the next line.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def strict_json(values: Any) -> str:
    """Return plain values as a line of JSON, null for what JSON has no word for (NaN, infinity)."""
    plain = json.loads(json.dumps(values), parse_constant=lambda _: None)
    return json.dumps(plain, allow_nan=False)


def adjusted_rand(a: Sequence[str], b: Sequence[str]) -> float:
    """Return the adjusted Rand index of two partitions of the same particles.

    1 for the same partition, 0 expected by chance (Hubert & Arabie, J. Classif. 2, 193, 1985).
    """
    pairs = sum(n * (n - 1) / 2 for n in Counter(zip(a, b, strict=True)).values())
    rows = sum(n * (n - 1) / 2 for n in Counter(a).values())
    columns = sum(n * (n - 1) / 2 for n in Counter(b).values())
    chance = rows * columns / max(len(a) * (len(a) - 1) / 2, 1)
    most = (rows + columns) / 2
    return 1.0 if most == chance else (pairs - chance) / (most - chance)


@dataclass(frozen=True)
class Iteration:
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


def iterations(job: Path) -> list[Iteration]:
    """Read what the particles did from the job's data.star files; unreadable ones are left out."""
    found: list[Iteration] = []
    last: dict[str, str] | None = None
    files = [(int(m[1]), path) for path in job.iterdir() if (m := _DATA.fullmatch(path.name)) and int(m[1])]
    for number, path in sorted(files):
        try:
            columns = ("rlnImageName", "rlnClassNumber", "rlnMaxValueProbDistribution")
            table = read_star(path, columns=columns)["particles"]
            names, classes = table.column("rlnImageName"), table.column("rlnClassNumber")
            certainty = table.numbers("rlnMaxValueProbDistribution")
        except (OccupyError, KeyError):
            continue
        of = dict(zip(names, classes, strict=True))
        both = [name for name in of if last is not None and name in last]
        stability = adjusted_rand([of[n] for n in both], [last[n] for n in both]) if both and last else None
        sizes = {int(k): n for k, n in sorted(Counter(classes).items())}
        found.append(
            Iteration(number, sizes, _shares(path), sum(certainty) / max(len(certainty), 1), stability)
        )
        last = of
    return found


def _shares(data: Path) -> dict[int, float]:
    """Read the classes' shares by probability from the model.star beside a data.star."""
    model = data.with_name(data.name.removesuffix("_data.star") + "_model.star")
    try:
        table = read_star(model, columns=("rlnClassDistribution",))["model_classes"]
        return dict(enumerate(table.numbers("rlnClassDistribution"), 1))
    except (OccupyError, KeyError):
        return {}


def warnings(found: Sequence[Iteration], calls: Sequence[dict[str, Any]]) -> list[Notice]:
    """Tell what makes the result of a run doubtful, and what to change."""
    notices = []
    if found and calls:
        last, classes = found[-1], max(call["class"] for call in calls)
        small = [k for k in range(1, classes + 1) if (last.share(k) or 0) < SMALLEST_SHARE / classes]
        if small:
            names = ", ".join(map(str, small))
            text = f"classes collapsed: {names} hold next to no particles; use fewer classes, or another seed"
            notices.append(Notice("collapse", text))
        if len(found) > 5 and last.stability is not None and last.stability < 0.8:
            text = f"not converged: ARI to the iteration before is {last.stability:.2f}; run more iterations"
            notices.append(Notice("not-converged", text))
    notices += _self_bias(calls)
    states = Counter(call.get("state") for call in calls)
    if states.get("separated", 0) == 0:
        notices.append(Notice("not-separated", "RELION's own maps were used throughout; see run.out for why"))
    return notices


def _self_bias(calls: Sequence[dict[str, Any]]) -> list[Notice]:
    """Warn where the own parts of the last iteration are not above what noise gives.

    Particles that follow their own noise gain about as much as the fit has freedom: the energy of the own
    part per particle then is of the order of one, below what tells two states apart.
    """
    last = max((call["iteration"] for call in calls), default=0)
    found = [energy_per_particle(call) for call in calls if call["iteration"] == last]
    ratios = [ratio for ratio in found if ratio is not None]
    if ratios and max(ratios) < LEAST_ENERGY:
        text = (
            f"self-bias: no class has an own part of more than {max(ratios):.1f} noise units per particle, "
            "which noise alone can give: not significant; use fewer classes, more particles, or a "
            "coarser limit (--strict_highres_exp)"
        )
        return [Notice("self-bias", text)]
    return []


def table(found: Sequence[Iteration], calls: Sequence[dict[str, Any]]) -> str:
    """Return the run as tab-separated text, one row per iteration and class."""
    rows = ["\t".join(COLUMNS)]
    particles = {one.number: one for one in found}
    for call in calls:
        values = _row(call, particles.get(call["iteration"]))
        rows.append("\t".join("" if value is None else str(value) for value in values))
    return "\n".join(rows) + "\n"


COLUMNS = (
    "iteration", "class", "particles", "share", "certainty", "stability", "own", "strength", "energy",
    "significant", "state",
)  # fmt: skip


def _row(call: dict[str, Any], one: Iteration | None) -> list[Any]:
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
    energy = energy_per_particle(call)
    row += [None, None] if energy is None else [round(energy, 3), "yes" if energy >= LEAST_ENERGY else "no"]
    return [*row, call.get("state")]


def energy_per_particle(call: dict[str, Any]) -> float | None:
    """Return the energy of a class's own part per particle in it, in units of the noise."""
    energy, particles = call.get("energy"), call.get("particles")
    return None if energy is None or particles is None else energy / max(particles, 1.0)
