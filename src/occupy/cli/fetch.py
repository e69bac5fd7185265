"""`occupy fetch`: maps from EMDB."""

from __future__ import annotations

from pathlib import Path

from occupy.cli.console import progress, say


def fetch_all(entries: list[str], output: Path | None, *, half_maps: bool, quiet: bool) -> None:
    """Download entries and print where they are."""
    from occupy.io.emdb import fetch

    for name in entries:
        with progress(name, quiet, unit="B") as report:
            entry = fetch(
                name,
                output,
                half_maps=half_maps,
                progress=lambda label, done, total, report=report: report(label, done, total or 0),  # type: ignore[misc]
            )
        about = f", contour level {entry.contour_level:g}" if entry.contour_level is not None else ""
        about += f", {entry.resolution:g} Å" if entry.resolution is not None else ""
        say(f"{entry.entry_id}: {entry.title or 'no title'}{about}", quiet)
        say(f"  {entry.map_path}", quiet)
        for path in entry.half_map_paths:
            say(f"  {path}", quiet)
        if half_maps and not entry.half_map_paths:
            say("  (the entry has no half-maps)", quiet)
