"""`occupy particles`: which parts each particle has, from its image, its pose and a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from occupy.cli.console import progress, say, warn
from occupy.requests import ParticleRequest, RegionRequest

if TYPE_CHECKING:
    from occupy.particles.pipeline import ParticleOccupancy


def estimate_particles(
    source: Path, output: Path | None, parts: RegionRequest, asked: ParticleRequest, quiet: bool
) -> None:
    """Read everything, estimate, write everything, print a summary."""
    from occupy.report.particle_run import estimate_parts, write_parts

    folder = output or Path(f"occupy_particles_{source.name.split('.')[0]}")
    with progress(source.name, quiet, "images") as report:
        found = estimate_parts(source, parts, asked, report, folder)
    files = write_parts(source, folder, found, parts, asked, sys.argv)
    _summarise(found, files, folder, quiet)


def _summarise(found: ParticleOccupancy, files: dict[str, str], folder: Path, quiet: bool) -> None:
    from occupy.report.particle_results import pair_rows, state_rows

    shown = 30
    for notice in found.notices:
        warn(notice.text, quiet)
    varying = int(found.levels.varying.sum())
    say(
        f"{found.particles}, {len(found.names)} parts, {varying} of them not in all particles:",
        quiet,
    )
    low, high = found.interval()
    width = max(map(len, found.names))
    order = sorted(range(len(found.names)), key=lambda i: float(found.occupancy[i]))
    for i in [i for i in order if found.levels.varying[i]][:shown]:
        say(f"  {found.names[i]:<{width}}  {found.occupancy[i]:.2f}  ({low[i]:.2f} to {high[i]:.2f})", quiet)
    for one, other, value, error in pair_rows(found)[:5]:
        say(f"  {one} with {other}: correlation {value:+.2f} ± {error:.2f}", quiet)
    for each in found.copies:
        counts = ", ".join(f"{number}: {share:.2f}" for number, share in enumerate(each.shares))
        say(f"  copies of {each.names[0]} in a particle: {counts}", quiet)
        say(
            f"    neighbours together {each.ratio:.2f} ± {each.ratio_error:.2f} times as often as by chance",
            quiet,
        )
    say("states:", quiet)
    for _, share, error, _, lacks in state_rows(found)[:shown]:
        say(f"  {share:.3f} ± {error:.3f}  lacks {lacks}", quiet)
    for what, name in files.items():
        say(f"  {what:<13} {folder / name}", quiet)
