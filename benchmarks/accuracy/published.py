"""The published estimator, OccuPy 0.1.13, run as a command in an environment of its own, with a cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import reference
from benchmarks.processes import measure
from occupy import read_map

TILES: dict[str, int | None] = {"published, N/20": None, "published, 12": 12}
"""As its command line runs by default, and with the documented tile of 12 voxels."""


def start_of(python: Path | None, folder: Path) -> list[str]:
    """Return the start of a command line: with a Python that has it installed, or one made below a folder."""
    if python is None:
        return reference.install(folder)
    script = folder / "reference_occupy.py"
    script.write_text(reference.STAND_IN)
    return [str(python), str(script)]


def scale_of(
    map_path: Path, key: str, tile: int | None, start: Sequence[str], cache: Path
) -> tuple[Path, float]:
    """Return the path of the published scale map, and the seconds it took (when it was made)."""
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{key}_t{tile or 'N20'}.mrc"
    seconds = kept.with_suffix(".seconds")
    if not (kept.exists() and seconds.exists()):
        with tempfile.TemporaryDirectory(dir=cache) as work:
            # RELION's maps in 16-bit floats and long names are handed on as they are.
            command = [*start, "-i", str(map_path.resolve()), "--occupancy"]
            command += [] if tile is None else ["--tile-size", str(tile)]
            cost = measure(command, Path(work), reference.environment())
            made = list(Path(work).glob("scale_occ_*.mrc"))
            if len(made) != 1:
                raise RuntimeError(f"{map_path}: the reference wrote {len(made)} scale maps")
            if read_map(made[0]).shape != read_map(map_path).shape:
                raise RuntimeError(f"{map_path}: the reference's scale map has another box")
            shutil.move(made[0], kept)
            seconds.write_text(f"{cost.wall:.3f}\n")
    return kept, float(seconds.read_text())
