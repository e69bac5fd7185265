"""Table and picture of a Class3D job with occupy in its loop."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from occupy.errors import InputError, Notice
from occupy.io.atomic import atomic_file, write_text
from occupy.io.exchange import Exchange
from occupy.io.loop import FOLDER, read_calls
from occupy.relion.runrecord import Iteration, energy_per_particle, iterations, table, warnings
from occupy.report.record import to_json


def write_report(job: Path) -> tuple[list[Path], list[Notice]]:
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
    calls, found = read_calls(folder), iterations(job)
    notices = warnings(found, calls)
    paths = [folder / f"classes.{suffix}" for suffix in ("tsv", "json", "png")]
    write_text(paths[0], table(found, calls))
    record = {
        "iterations": [asdict(one) for one in found],
        "calls": calls,
        "notices": [asdict(notice) for notice in notices],
    }
    write_text(paths[1], to_json(record))
    _draw(paths[2], found, calls)
    return paths, notices


def is_last(call: Exchange) -> bool:
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


def _draw(path: Path, found: list[Iteration], calls: list[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    sizes, own, energy, steady = figure.subplots(2, 2).flat
    classes = sorted({call["class"] for call in calls})
    for k in classes:
        sizes.plot([i.number for i in found], [i.share(k) for i in found], ".-", label=f"class {k}")
        mine = [call for call in calls if call["class"] == k and call.get("own") is not None]
        steps = [call["iteration"] for call in mine]
        own.plot(steps, [100 * call["own"] for call in mine], ".-")
        energy.plot(steps, [energy_per_particle(call) for call in mine], ".-")
    steady.plot(
        [i.number for i in found],
        [i.certainty for i in found],
        ".-",
        color="0.3",
        label="largest probability",
    )
    later = [i for i in found if i.stability is not None]
    steady.plot(
        [i.number for i in later], [i.stability for i in later], ".-", color="C3", label="ARI to the last one"
    )
    steady.set(ylim=(-0.05, 1.05), title="Certainty and stability")
    sizes.set(title="Share of each class, by probability", ylim=(0, None))
    own.set(title="Own part, % of the shared part", ylim=(0, None))
    energy.set(title="Own part's energy per particle (noise = 1)", ylim=(0, None))
    for axes in (sizes, own, energy, steady):
        axes.set_xlabel("iteration")
    sizes.legend(fontsize="small")
    steady.legend(fontsize="small")
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=110)
