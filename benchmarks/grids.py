"""How far the answer on the working grid is from that on the map's own voxels, and where that comes from.

    python -m benchmarks.grids MAP... [--smoke]

For each map, over the voxels of confidence above ½, the share within 0.01 and 0.05 and the mean of the
differences: of scale and occupancy, as a run gives them, from those estimated on the map's own grid (same
low-pass, same ball in Å); and, for the scale with one calibration on a grid twice as fine, how much of that
is interpolation (the same points of the ball, looked at from everywhere) and how much the points in between
(all of the ball).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter

from benchmarks.accuracy.kinds import moved
from benchmarks.maps import write_benchmark_map
from occupy import Volume, read_map
from occupy.numerics.fourier import lowpass_onto
from occupy.numerics.morphology import ball_footprint, ball_widths, box_of_ball, dilate
from occupy.numerics.resampling import Refiner
from occupy.pipeline import Estimate, estimate

Array = npt.NDArray[np.float32]


def on_own_grid(est: Estimate) -> Estimate:
    """Estimate again on the map's own voxels, with a ball of the same radius in Å."""
    s, size = est.settings, est.volume.voxel_size
    radius = s.kernel_radius[0] * s.voxel_size[0]
    with moved("MAP", grid=s.lowpass / max(size) * (1 - 1e-6), radius=radius, most_voxels=np.inf):
        return estimate(est.volume)


def causes(est: Estimate) -> tuple[npt.NDArray[np.bool_], dict[str, tuple[Array, Array]]]:
    """Return the content of a grid twice as fine, and the scales there whose differences are causes."""
    s, calibration = est.settings, est.calibration
    if calibration is None:
        raise ValueError(f"{est.volume.name} holds too little density to calibrate on")
    z, y, x = s.shape
    twice = 2 * z, 2 * y, 2 * x
    extent = [n * a / s.lowpass for n, a in zip(s.shape, s.voxel_size, strict=True)]
    low = lowpass_onto(est.volume.data, twice, (extent[0], extent[1], extent[2]))

    def scale(maxima: Array) -> Array:
        return calibration.scale_of(calibration.readings_of(maxima, np.empty_like(maxima)))

    coarse = scale(dilate(est.lowpassed, ball_widths(s.kernel_radius, s.kernel_size)))
    written = Refiner(s.shape, twice, coarse.__getitem__).planes(0, twice[0])
    points = ball_footprint(s.kernel_radius, s.kernel_size)
    apart = np.zeros([2 * n - 1 for n in points.shape], dtype=bool)
    apart[::2, ::2, ::2] = points
    same = scale(maximum_filter(low, footprint=apart, mode="nearest"))
    a, b, c = (2 * r for r in s.kernel_radius)
    sides = box_of_ball(a), box_of_ball(b), box_of_ball(c)
    all_points = scale(dilate(low, ball_widths((a, b, c), sides)))
    pairs = {"interpolation": (written, same), "points between": (same, all_points)}
    return est.curve(low) > 0.5, pairs | {"both": (written, all_points)}


def said(found: Array, other: Array, sure: npt.NDArray[np.bool_]) -> str:
    """Return shares within 0.01 and 0.05, mean size, and mean of differences."""
    off = (found - other)[sure]
    size = np.abs(off)
    return (
        f"{np.mean(size <= 0.01):.1%} / {np.mean(size <= 0.05):.1%} / {size.mean():.3f} / {off.mean():+.3f}"
    )


def compare(volume: Volume) -> list[str]:
    """Return the lines of the table for one map."""
    est = estimate(volume)
    own, sure = on_own_grid(est), est.confidence > 0.5
    where = f"| {volume.name}, {volume.voxel_size[0]:.3g} / {est.settings.voxel_size[0]:.3g} Å |"
    lines = [
        f"{where} {what} | {said(getattr(est, what), getattr(own, what), sure)} |"
        for what in ("scale", "occupancy")
    ]
    inside, pairs = causes(est)
    return lines + [f"{where} scale: {name} | {said(*pair, inside)} |" for name, pair in pairs.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("maps", nargs="*", type=Path, metavar="MAP")
    parser.add_argument("--smoke", action="store_true", help="one small map made by the benchmark")
    a = parser.parse_args(arguments)
    print(
        "| map, voxel / working grid | what | within 0.01 / within 0.05 / mean size / mean |\n|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        made = [write_benchmark_map(Path(folder), "particle", 64)] if a.smoke else []
        for path in [*a.maps, *made]:
            volume = read_map(path)
            print("\n".join(compare(replace(volume, name=path.stem))), flush=True)


if __name__ == "__main__":
    main()
