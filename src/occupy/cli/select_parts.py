"""`occupy select` by presence: particles that surely have, or lack, parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from occupy.cli.console import say
from occupy.errors import InputError


@dataclass(frozen=True)
class WantedParts:
    """Parts that a particle must have, and must lack, and how sure that must be."""

    present: tuple[str, ...]
    absent: tuple[str, ...]
    probability: float


def select_by_presence(
    source: Path, particles: Path, wanted: WantedParts, output: Path, *, quiet: bool = False
) -> None:
    """Write the particles whose presence table fulfils every wish, and say how many."""
    import numpy as np

    from occupy.io.particles import read_presence, write_chosen
    from occupy.report.particle_results import PRESENCE

    names, presence = read_presence(source / PRESENCE if source.is_dir() else source)
    keep = np.ones(len(presence), dtype=bool)
    for name in wanted.present:
        keep &= presence[:, _index(names, name)] >= wanted.probability
    for name in wanted.absent:
        keep &= 1 - presence[:, _index(names, name)] >= wanted.probability
    wish = " and ".join([*wanted.present, *(f"no {name}" for name in wanted.absent)])
    if not keep.any():
        raise InputError(
            f"no particle has {wish} with probability {wanted.probability:g}; nothing was written"
        )
    write_chosen(particles, keep, output)
    share = keep.sum() / len(keep)
    say(f"{keep.sum()} of {len(keep)} particles ({share:.0%}): {wish}, each at {wanted.probability:g}", quiet)
    say(f"written: {output}", quiet)


def _index(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise InputError(f"no part {name!r}; there are {', '.join(names[:12])}" + " …" * (len(names) > 12))
    return list(names).index(name)
