"""Recognise maps that are unsuitable: errors where the answer would be wrong, notices where doubtful."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError, Notice
from occupy.numerics.parallel import for_each_slab, planes_per_slab
from occupy.settings import short_repr
from occupy.volume import Volume


@dataclass(frozen=True)
class MapFacts:
    """What one pass over a map tells.

    Attributes
    ----------
    low, high : float
        Range of values.
    flat_value : float
        Value of the box's first voxel or zero, whichever is more frequent.
    flat_share : float
        Share of a sample of the voxels with exactly this value: near 0 in a raw map, large in a masked one.
    masked_share : float
        More than this share is the work of a mask.
    """

    low: float
    high: float
    flat_value: float
    flat_share: float
    masked_share: ClassVar[float] = 0.01

    __repr__ = short_repr

    @property
    def masked(self) -> bool:
        """Whether so many voxels are equal that the map must have been masked or flattened."""
        return self.flat_share > self.masked_share


def look_at(volume: Volume, *, threads: int = 1) -> MapFacts:
    """Pass over a map once; raise InputError where no answer could be right."""
    _check_shape(volume)
    data = volume.data
    thickness = planes_per_slab(data.shape)
    ends = np.zeros((-(-data.shape[0] // thickness), 2))

    def work(start: int, stop: int) -> None:
        slab = data[start:stop]
        ends[start // thickness] = slab.min(), slab.max()

    for_each_slab(work, data.shape[0], thickness, threads)
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(data.size - np.count_nonzero(np.isfinite(data)))
        voxels = "voxel is not a finite number" if bad == 1 else "voxels are not finite numbers"
        raise InputError(f"{volume.name}: {bad} {voxels} (NaN or infinite); repair the map first")
    if low == high:
        raise InputError(
            f"{volume.name}: the map is constant ({low:.4g} everywhere); there is nothing to estimate"
        )
    value, share = _flat_share(data)
    return MapFacts(low, high, value, share)


def _flat_share(data: npt.NDArray[np.float32], most: int = 300_000) -> tuple[float, float]:
    """Return the value that many voxels share exactly, and how many do, in a sample of about ``most``.

    Values shared because the file holds few different ones (8-bit maps), and not by a mask, don't count.
    """
    step = max(1, int((data.size / most) ** (1 / 3)))
    sample = data[::step, ::step, ::step]
    corner = data[0, 0, 0]
    value = max((corner, np.float32(0)), key=lambda v: int(np.count_nonzero(sample == v)))
    share = float(np.mean(sample == value))
    if share > MapFacts.masked_share:
        counts = np.sort(np.unique(sample, return_counts=True)[1])
        if len(counts) > 1 and counts[-2] > 0.2 * counts[-1]:
            share = 0.0
    return float(value), share


def _check_shape(volume: Volume, least: int = 12) -> None:
    shape = " x ".join(str(n) for n in reversed(volume.shape))
    if volume.frame.space_group >= 401:
        group = volume.frame.space_group
        raise InputError(f"{volume.name}: this is a stack of volumes (space group {group}); split it first")
    if min(volume.shape) == 1:
        raise InputError(f"{volume.name}: this is a 2D image ({shape}), not a map")
    if min(volume.shape) < least:
        raise InputError(
            f"{volume.name}: the box is too small: {shape} voxels, fewer than {least} along an axis"
        )


def input_notices(volume: Volume, facts: MapFacts) -> list[Notice]:
    """Return what is doubtful about the map itself."""
    nz, ny, nx = volume.shape
    frame = volume.frame
    looks_like_stack = frame.space_group == 0 and nx == ny != nz and frame.sampling[2] == 1
    found = {
        "masked": facts.masked
        and f"{facts.flat_share:.0%} of the voxels are exactly {facts.flat_value:.3g}: the map is masked or "
        "solvent-flattened. Those voxels are left out of the solvent fit; use an unmasked map if you can",
        "voxel-size": max(abs(a - 1.0) for a in volume.voxel_size) < 1e-6
        and "the voxel size is exactly 1 Å, which often means that it was never set; see --voxel-size",
        "cell-angles": max(abs(angle - 90.0) for angle in frame.angles) > 0.01
        and f"the cell is not orthogonal ({frame.angles}); treated as if it were",
        "contrast": facts.low < min(0.0, -1.5 * facts.high)
        and "negative values dominate: the contrast may be inverted",
        "stack": looks_like_stack and f"the header looks like that of a stack of {nz} images, not of a map",
    }
    return [Notice(code, text) for code, text in found.items() if text]
