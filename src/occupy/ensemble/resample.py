"""Bring a map onto the grid of another."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from occupy.regions.region import index_of
from occupy.volume import Volume

_PLANES = 8


def resampled(volume: Volume, grid: Volume) -> Volume:
    """Return a map at the positions of another's voxels, interpolated linearly; 0 beyond its box.

    Parameters
    ----------
    volume : Volume
        The map. Where its voxels are finer it is smoothed first, so that nothing is aliased.
    grid : Volume
        Any map on the wanted grid. Both are placed as ChimeraX places them.
    """
    ratio = [b / a for a, b in zip(sorted(volume.voxel_size), sorted(grid.voxel_size), strict=True)]
    data = volume.data
    if max(ratio) > 1.05:
        data = gaussian_filter(data, 0.42 * np.sqrt(max(ratio) ** 2 - 1), mode="nearest")
    out = np.empty(grid.shape, dtype=np.float32)
    for start in range(0, grid.shape[0], _PLANES):
        part = out[start : start + _PLANES]
        index = np.moveaxis(np.indices(part.shape), 0, -1).reshape(-1, 3).astype(np.float64)
        index[:, 0] += start
        where = index_of(volume, grid.position(index))
        part[...] = map_coordinates(data, where.T, order=1, mode="constant").reshape(part.shape)
    return grid.with_data(out, name=volume.name)
