"""Volumes: read-only, in place whatever the axis order."""

import itertools

import numpy as np
import pytest
from hypothesis import given

from occupy.volume import Frame, Volume
from strategies import volumes


def test_data_are_read_only_float32_and_the_callers_array_stays_writable():
    mine = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    volume = Volume.from_array(mine, 2.0)
    with pytest.raises(ValueError, match="read-only"):
        volume.data[0, 0, 0] = 1
    mine[0, 0, 0] = 7
    with pytest.raises(AttributeError):
        volume.name = "other"
    assert Volume.from_array(np.ones((2, 2, 2), dtype=np.int16), 1.0).data.dtype == np.float32


def test_from_array_describes_the_whole_box():
    volume = Volume.from_array(np.zeros((2, 3, 4)), (1.5, 2.0, 2.5), name="box")
    assert volume.voxel_size == (1.5, 2.0, 2.5)
    assert volume.shape == (2, 3, 4)
    assert volume.frame.sampling == (4, 3, 2)  # x, y, z
    assert volume.frame.cell == (10.0, 6.0, 3.0)
    assert volume.name == "box"
    np.testing.assert_array_equal(volume.position([0, 0, 0]), [0, 0, 0])
    np.testing.assert_array_equal(volume.position([1, 2, 3]), [7.5, 4.0, 1.5])
    assert Volume.from_array(np.zeros((2, 2, 2)), 3).voxel_size == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf"), (1.0, 1.0, 0.0), (1.0, 2.0)])
def test_impossible_voxel_sizes_are_refused(size):
    with pytest.raises((ValueError, IndexError)):
        Volume.from_array(np.zeros((2, 2, 2)), size)


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match="three dimensions, not 2"):
        Volume.from_array(np.zeros((2, 2)), 1.0)
    with pytest.raises(ValueError, match="three dimensions, not 4"):
        Volume(np.zeros((1, 1, 1, 1), dtype=np.float32), (1, 1, 1))
    with pytest.raises(TypeError, match="not list"):
        Volume([[[1.0]]], (1, 1, 1))


# Sections, rows and columns of 4, 3 and 2 Å; index (1, 2, 3).
PLACES = [
    # usual order: x along columns, y along rows, z along sections
    (Frame(), [6, 6, 4]),
    (Frame(nstart=(10, 20, 30)), [26, 66, 124]),
    (Frame(origin=(1.5, -2.0, 100.0)), [7.5, 4, 104]),
    (Frame(origin=(1.5, 0.0, 0.0), nstart=(10, 20, 30)), [7.5, 6, 4]),  # the origin counts, not nstart
    # columns run along z, rows along y, sections along x
    (Frame(axes=(3, 2, 1)), [4, 6, 6]),
    (Frame(axes=(3, 2, 1), nstart=(10, 20, 30)), [124, 66, 26]),
    (Frame(axes=(3, 2, 1), origin=(100.0, 200.0, 300.0)), [104, 206, 306]),
    # columns along y, rows along z, sections along x
    (Frame(axes=(2, 3, 1)), [4, 6, 6]),
    (Frame(axes=(2, 3, 1), nstart=(1, 2, 3)), [4 * 4, 2 * 4, 3 * 4]),
    (Frame(axes=(2, 3, 1), origin=(1.0, 2.0, 3.0)), [5, 8, 9]),
    # columns along y, rows along x, sections along z (as in EMD-32143)
    (Frame(axes=(2, 1, 3), nstart=(5, 0, -1)), [6, 16, 0]),
]


@pytest.mark.parametrize(("frame", "place"), PLACES)
def test_positions_worked_out_by_hand(frame, place):
    volume = Volume(np.zeros((5, 5, 5), dtype=np.float32), (4.0, 3.0, 2.0), frame)
    np.testing.assert_allclose(volume.position([1, 2, 3]), place)


@given(volumes())
def test_positions_are_affine_and_keep_their_shape(volume):
    corner = volume.position([0, 0, 0])
    index = np.array([[[1, 2, 3], [0.5, 0, 2]]])
    moved = volume.position(index)
    assert moved.shape == index.shape
    steps = np.stack([volume.position(unit) - corner for unit in np.eye(3)])
    np.testing.assert_allclose(moved - corner, index @ steps, atol=1e-14 * max(1e3, np.abs(moved).max()))
    # Each axis of the data runs along its own axis of space.
    for along in range(3):
        axis = volume.frame.axes[2 - along] - 1
        rounding = 1e-15 * np.abs(corner).max()
        assert np.flatnonzero(np.abs(steps[along]) > rounding).tolist() == [axis]
        assert steps[along, axis] == pytest.approx(volume.voxel_size[along], abs=rounding)


@pytest.mark.parametrize("axes", list(itertools.permutations((1, 2, 3))))
def test_standard_is_zyx_whatever_the_file_says(axes):
    zyx = np.random.default_rng(0).standard_normal((3, 4, 5), dtype=np.float32)
    named = {3: 0, 2: 1, 1: 2}  # axis number in the file → axis of zyx
    columns, rows, sections = axes
    stored = zyx.transpose(named[sections], named[rows], named[columns])
    volume = Volume(stored, (1.0, 1.0, 1.0), Frame(axes=axes))
    np.testing.assert_array_equal(volume.standard(), zyx)
    assert np.shares_memory(volume.standard(), volume.data)
    # and position() agrees about which voxel is where
    np.testing.assert_array_equal(volume.position(np.argwhere(volume.data == zyx[1, 2, 3])[0]), [3, 2, 1])


def test_with_data_keeps_the_grid_and_refuses_another():
    frame = Frame(origin=(1.0, 2.0, 3.0))
    volume = Volume(np.zeros((2, 3, 4), dtype=np.float32), (1.0, 1.0, 1.0), frame, "old")
    other = volume.with_data(np.ones((2, 3, 4)))
    assert (other.frame, other.voxel_size, other.name) == (frame, (1.0, 1.0, 1.0), "old")
    assert (other.data == 1).all()
    assert (volume.data == 0).all()
    assert volume.with_data(volume.data, "new").name == "new"
    with pytest.raises(ValueError, match=r"\(3, 2, 4\).*\(2, 3, 4\)"):
        volume.with_data(np.ones((3, 2, 4)))


def test_same_grid():
    box = np.zeros((4, 4, 4), dtype=np.float32)
    volume = Volume(box, (2.0, 2.0, 2.0))
    assert volume.same_grid(Volume(box + 1, (2.01, 2.0, 2.0)))
    assert not volume.same_grid(Volume(box, (2.1, 2.0, 2.0)))
    assert not volume.same_grid(Volume(box[:3], (2.0, 2.0, 2.0)))
    assert not volume.same_grid(Volume(box, (2.0, 2.0, 2.0), Frame(axes=(3, 2, 1))))
