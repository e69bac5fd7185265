"""What it costs to give single maps the rules of sets, and sets those of single maps.

    python -m benchmarks.exchange [--data DATA] [--models FOLDER] [--folder FOLDER] [--relion] [--smoke]

Three rules are not the same for one map and for sets: which voxels count as content, what full material
reads, and how likely a part is full before it is looked at. Each is exchanged alone, on the maps and sets of
`benchmarks.sensitivity`; docs/explanation/tuning.md has the table.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from math import log
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.kinds import moved
from benchmarks.sensitivity import Errors, measures
from occupy import calibration, tuning
from occupy.ensemble import pipeline
from occupy.ensemble.comparison import FullLevel, content_of
from occupy.ensemble.pipeline import SetEstimate
from occupy.ensemble.scaling import ScaledMaps
from occupy.statistics.noise import without_noise
from occupy.statistics.posterior import chance_of_full, posterior_error, posterior_mean

Array = NDArray[np.float32]
Level = tuple[float, float, tuple[tuple[float, float], ...]]

map_places = calibration._content_places
map_logs = calibration._averaged_logs
map_level = calibration._full_level
set_content = content_of
set_level = FullLevel.of
set_reading = pipeline._reading


@contextmanager
def set_content_in_maps() -> Iterator[None]:
    """Let a share of the highest reading, and of the own maximum, say what is content of a single map."""

    def places(data: Array, dilated: Array, floor: float) -> NDArray[np.bool_] | None:
        if map_places(data, dilated, floor) is None:
            return None
        reading = without_noise(dilated, floor, tuning.SHARED.noise_power).astype(np.float32)
        return set_content(reading, data)

    with patch.object(calibration, "_content_places", places):
        yield


@contextmanager
def set_level_in_maps(averaged: bool = True) -> Iterator[None]:
    """Let the uppermost high peak of readings be what full material reads in a single map."""

    def level(logs: Array) -> Level:
        full = set_level(np.exp(logs.astype(np.float64))).value
        near = log(1 - tuning.MAP.nearly_full)
        share = float(np.count_nonzero(logs > log(full) + near) / logs.size)
        _, _, others = map_level(logs)
        return full, share, others

    def single(readings: Array, inside: NDArray[np.bool_], _sigma: tuple[float, ...]) -> Array:
        return np.asarray(np.log(readings[inside]))

    with ExitStack() as stack:
        stack.enter_context(patch.object(calibration, "_full_level", level))
        if not averaged:
            stack.enter_context(patch.object(calibration, "_averaged_logs", single))
        yield


@contextmanager
def set_prior_in_maps() -> Iterator[None]:
    """Let the chance to be full be the same number for every single map."""
    prior = property(lambda _: tuning.SET.full_prior)
    with patch.object(calibration.Calibration, "chance_of_full", prior):
        yield


@contextmanager
def map_content_in_sets() -> Iterator[None]:
    """Let what is well above the noise, and inside by the rule of single maps, be content of a set."""
    floors: list[float] = []

    def reading(scaled: ScaledMaps, threads: int) -> Array:
        with patch.object(pipeline, "without_noise", lambda high, floor, power: _kept(high, floor, power)):
            return set_reading(scaled, threads)

    def _kept(high: Array, floor: float, power: float) -> Array:
        floors.append(floor)
        return np.asarray(without_noise(high, floor, power))

    def content(read: Array, density: Array) -> NDArray[np.bool_]:
        power, floor = tuning.SHARED.noise_power, floors[-1]
        raw = (read**power + floor**power) ** (1 / power)
        found = map_places(density, raw.astype(np.float32), floor)
        return set_content(read, density) if found is None else found

    with patch.object(pipeline, "_reading", reading), patch.object(pipeline, "content_of", content):
        yield


@contextmanager
def map_level_in_sets(averaged: bool = True) -> Iterator[None]:
    """Let what can't be above full, the upper edge of readings, be what full material reads in a set."""
    seen: dict[str, Any] = {}

    def reading(scaled: ScaledMaps, threads: int) -> Array:
        seen["sigma"] = scaled.voxels(tuning.MAP.averaging)
        return set_reading(scaled, threads)

    def content(read: Array, density: Array) -> NDArray[np.bool_]:
        seen["read"], seen["inside"] = read, set_content(read, density)
        return np.asarray(seen["inside"])

    def level(values: Array) -> FullLevel:
        logs = np.log(np.maximum(values, 1e-30))
        if averaged:
            logs = map_logs(np.maximum(seen["read"], 1e-30), seen["inside"], seen["sigma"])
        return FullLevel(map_level(logs)[0], set_level(values).spread)

    with (
        patch.object(pipeline, "_reading", reading),
        patch.object(pipeline, "content_of", content),
        patch.object(FullLevel, "of", level),
    ):
        yield


@contextmanager
def map_prior_in_sets() -> Iterator[None]:
    """Let the chance to be full be the share of places of the set that read so."""

    def best(est: SetEstimate) -> tuple[Array, Array]:
        reading, spread = est.reading * est.best / np.float32(est.full.value), est.full.spread
        full = np.count_nonzero(reading[est.content] > 1 - tuning.MAP.nearly_full) / est.content.sum()
        chance = chance_of_full(reading, spread, min(tuning.MAP.most_full, float(full)))
        error = posterior_error(reading, chance, spread * np.clip(reading, 0, 1))
        return posterior_mean(reading, chance).astype(np.float32), error.astype(np.float32)

    lazy = cached_property(best)
    lazy.__set_name__(SetEstimate, "_of_best")
    with patch.object(SetEstimate, "_of_best", lazy):
        yield


Way = Callable[[], Any]
MAPS: Mapping[str, Way] = {
    "content: as in sets": set_content_in_maps,
    "content: core of sets (0.15)": lambda: moved("MAP", core=tuning.SET.core),
    "full level: uppermost peak of averaged readings": set_level_in_maps,
    "full level: uppermost peak of single readings": lambda: set_level_in_maps(False),
    "prior: 0.8, as in sets": set_prior_in_maps,
}
SETS: Mapping[str, Way] = {
    "content: as in single maps": map_content_in_sets,
    "content: core of single maps (0.4)": lambda: moved("SET", core=tuning.MAP.core),
    "full level: upper edge of averaged readings": map_level_in_sets,
    "full level: upper edge of single readings": lambda: map_level_in_sets(False),
    "prior: share of places that read full, as in single maps": map_prior_in_sets,
}


def table(title: str, ways: Mapping[str, Way], measure: Callable[[], Errors]) -> list[str]:
    """Measure as it is and with every rule exchanged; return rows of a table."""
    lines = [f"| {title} | all | partial | stated error |", "|---" * 4 + "|"]
    base = measure()

    def row(name: str, errors: Errors) -> None:
        cells = [f"{errors[key]:.4f} ({errors[key] / base[key] - 1:+.0%})" for key in base]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)

    row("as it is", base)
    for name, way in ways.items():
        with way():
            row(name, measure())
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OCCUPY_SHARED_DATA", beside)))
    parser.add_argument("--models", type=Path, help="models of benchmarks/accuracy/kinds.py")
    parser.add_argument("--folder", type=Path, help="keep maps here")
    parser.add_argument("--relion", action="store_true", help="on RELION's sets too")
    parser.add_argument("--smoke", action="store_true", help="on one small map and set")
    a = parser.parse_args(arguments)
    logging.getLogger("occupy").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as temporary:
        ways = measures(a, a.folder or Path(temporary))
        table("single maps", MAPS, ways["MAP"])
        table("sets", SETS, ways["SET"])


if __name__ == "__main__":
    main()
