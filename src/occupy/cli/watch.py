"""`occupy watch`: follow a classification, iteration by iteration."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from occupy.cli.console import say, warn
from occupy.requests import RegionRequest, SetRequest, WatchRequest


def watch_job(
    folder: Path, output: Path | None, regions: RegionRequest, asked: WatchRequest, quiet: bool
) -> None:
    """Follow a job with the regions asked for, to its end."""
    from occupy.relion.watch import Watch, follow, set_reader

    regions.check()
    options = (
        SetRequest(asked.lowpass, components=False).options
        | regions.options
        | {
            "model": [str(path.resolve()) for path in regions.models],
            "regions": None if regions.selections is None else str(regions.selections.resolve()),
        }
    )
    target = output or Path(f"occupy_watch_{folder.resolve().name}")
    watch = Watch(
        folder,
        target,
        options,
        asked.interval,
        asked.every,
        asked.once,
        say=partial(say, quiet=quiet),
        warn=partial(warn, quiet=quiet),
    )
    follow(watch, set_reader(regions, asked.lowpass, target))
