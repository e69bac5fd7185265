"""A map on the grid of another."""

from __future__ import annotations

import numpy as np

from occupy.ensemble.members import resampled
from occupy.volume import Volume


def blob(side, voxel, centre=(50.0, 44.0, 47.0)):
    axes = np.meshgrid(*(np.arange(side) * voxel,) * 3, indexing="ij")
    data = np.exp(-sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True)) / (2 * 12.0**2))
    return Volume.from_array(data.astype(np.float32), voxel, "blob")


def test_the_same_grid_changes_nothing():
    volume = blob(40, 2.5)
    np.testing.assert_allclose(resampled(volume, volume).data, volume.data, atol=1e-6)


def test_finer_and_coarser_grids_show_the_same_thing():
    for side, voxel in ((50, 2.0), (25, 4.0)):
        made = resampled(blob(side, voxel), blob(40, 2.5))
        assert made.same_grid(blob(40, 2.5))
        np.testing.assert_allclose(made.data, blob(40, 2.5).data, atol=0.04)


def test_beyond_the_box_there_is_nothing():
    made = resampled(blob(20, 2.5), blob(40, 2.5))
    assert np.all(made.data[25:] == 0)
    np.testing.assert_allclose(made.data[:19, :19, :19], blob(20, 2.5).data[:19, :19, :19], atol=1e-5)
