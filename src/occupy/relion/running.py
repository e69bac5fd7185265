"""What a running job's earlier files tell: pixel size, diameter, particles, classes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from occupy.errors import OccupyError
from occupy.io.exchange import Exchange
from occupy.io.star import StarTable, read_star

_ITERATION = re.compile(r"(.*)_it(\d+)_(model|optimiser)\.star")


@dataclass(frozen=True)
class Job:
    """What is known of the job, None where a file does not say.

    Attributes
    ----------
    pixel_size, diameter : float or None
        Å.
    particles, classes, iterations : int or None
        Numbers of them; the iterations are those asked for.
    """

    pixel_size: float | None = None
    diameter: float | None = None
    particles: int | None = None
    classes: int | None = None
    iterations: int | None = None


def read_job(call: Exchange) -> Job:
    """Read the latest model.star and optimiser.star before this iteration, beside the call's files.

    Files that are missing or damaged leave things unknown.
    """
    model = _tables(_latest(call, "model"))
    optimiser = _tables(_latest(call, "optimiser")).get("optimiser_general")
    general = model.get("model_general")
    groups = model.get("model_groups")
    counts = groups.numbers("rlnGroupNrParticles") if groups and groups.has("rlnGroupNrParticles") else ()
    classes = _value(general, "rlnNrClasses")
    iterations = _value(optimiser, "rlnNumberOfIterations")
    return Job(
        pixel_size=call.pixel_size or _value(general, "rlnPixelSize"),
        diameter=call.diameter or _value(optimiser, "rlnParticleDiameter"),
        particles=round(sum(counts)) or None,
        classes=int(classes) if classes else None,
        iterations=int(iterations) if iterations else None,
    )


def _latest(call: Exchange, kind: str) -> Path | None:
    """Return the newest file of a kind; those of the iteration that is being computed do not exist yet."""
    found = []
    for path in call.star.parent.glob(f"*_{kind}.star"):
        match = _ITERATION.fullmatch(path.name)
        if match and int(match[2]) < max(call.iteration, 1):
            found.append((int(match[2]), path.stat().st_mtime, path))
    return max(found)[2] if found else None


def _tables(path: Path | None) -> dict[str, StarTable]:
    if path is None:
        return {}
    names = ("rlnPixelSize", "rlnNrClasses", "rlnGroupNrParticles", "rlnParticleDiameter")
    try:
        return read_star(path, columns=(*names, "rlnNumberOfIterations"))
    except OccupyError:
        return {}


def _value(table: StarTable | None, name: str) -> float | None:
    """Return a positive number of a table, None where there is none."""
    if table is None or not table.has(name) or not table.rows:
        return None
    value = table.numbers(name)[0]
    return value if math.isfinite(value) and value > 0 else None
