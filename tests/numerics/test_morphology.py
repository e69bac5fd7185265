"""Dilation equals the plain filter voxel for voxel; footprints have the voxels they should."""

import itertools
from itertools import cycle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from occupy.numerics import morphology
from occupy.numerics.morphology import ball_footprint, ball_widths, dilate, dilate_stream, dilate_strided
from strategies import arrays, cuts, footprints, shapes


def plain(data, radius, size):
    return maximum_filter(data, footprint=ball_footprint(radius, size), mode="reflect")


def plain_footprint(radius, size):
    """The definition, voxel by voxel."""
    out = np.zeros(size, dtype=bool)
    for index in itertools.product(*(range(side) for side in size)):
        offset = [i - side // 2 for i, side in zip(index, size, strict=True)]
        out[index] = sum((o / r) ** 2 for o, r in zip(offset, radius, strict=True)) <= 1 + 1e-9
    return out


@given(footprints(9))
def test_footprint_is_its_definition(footprint):
    np.testing.assert_array_equal(ball_footprint(*footprint), plain_footprint(*footprint))


@pytest.mark.parametrize(
    ("radius", "side", "voxels"),
    [
        (0.5, 3, 1),
        (1.0, 3, 7),
        (1.5, 3, 19),
        (1.8, 3, 27),
        (2.0, 5, 33),
        (2.0, 3, 27),
        (2.62, 5, 81),
        (2.9, 5, 93),
        (3.0, 5, 117),
        (3.0, 7, 123),
        (100.0, 9, 729),
    ],
)
def test_known_numbers_of_voxels(radius, side, voxels):
    assert ball_footprint((radius,) * 3, (side,) * 3).sum() == voxels


def test_a_voxel_on_the_sphere_belongs_to_it_in_spite_of_rounding():
    for reach in range(1, 8):
        radius = reach * 0.1 / 0.1  # 3 × 0.1 / 0.1 falls short of 3 in doubles or not, no matter
        widths = ball_widths((radius,) * 3, (2 * reach + 1,) * 3)
        assert widths[0][0] == reach
        assert widths[reach][0] == 0


@pytest.mark.parametrize("size", [(2, 3, 3), (3, 4, 3), (3, 3, 0), (3, -1, 3)])
def test_even_or_empty_boxes_are_refused(size):
    with pytest.raises(ValueError, match="odd and positive"):
        ball_widths((1.5, 1.5, 1.5), size)


@pytest.mark.parametrize("radius", [(0.0, 1.0, 1.0), (1.0, -2.0, 1.0), (1.0, 1.0, float("nan"))])
def test_radius_must_be_positive(radius):
    with pytest.raises(ValueError, match="radius must be positive"):
        ball_widths(radius, (3, 3, 3))


@given(arrays(), footprints())
@example(np.arange(13, dtype=np.float32).reshape(1, 1, 13), ((7.0, 7.0, 7.0), (15, 15, 15)))
@example(np.arange(11, dtype=np.float32).reshape(11, 1, 1), ((2.0, 2.0, 2.0), (5, 5, 5)))
@example(np.zeros((1, 1, 1), dtype=np.float32), ((2.0, 2.0, 2.0), (5, 5, 5)))
def test_equals_the_plain_filter(data, footprint):
    np.testing.assert_array_equal(dilate(data, ball_widths(*footprint)), plain(data, *footprint))


@given(st.data())
def test_any_cut_into_slabs_gives_the_whole(data):
    array = data.draw(arrays(data.draw(shapes(1, 12))))
    radius, size = data.draw(footprints())
    slabs = data.draw(cuts(len(array)))
    widths = ball_widths(radius, size)
    streams = (
        dilate_stream(array, widths, *slab, thickness)
        for slab, thickness in zip(slabs, cycle((1, 3, 99)), strict=False)
    )
    joined = np.concatenate([part.copy() for stream in streams for _, _, part in stream])
    np.testing.assert_array_equal(joined, plain(array, radius, size))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("planes", [1, 2, 3, 5])
@pytest.mark.parametrize("side", [3, 9])
def test_working_in_pieces_and_threads_changes_nothing(monkeypatch, threads, planes, side):
    monkeypatch.setattr(morphology, "planes_per_slab", lambda shape, voxels=0: planes)
    data = np.random.default_rng(side).standard_normal((31, 17, 10), dtype=np.float32)
    radius, size = (side / 2,) * 3, (side,) * 3
    result = dilate(data, ball_widths(radius, size), threads=threads)
    np.testing.assert_array_equal(result, plain(data, radius, size))


@settings(max_examples=30)
@given(arrays(), footprints(7), footprints(7))
def test_dilation_is_extensive_and_grows_with_the_footprint(data, one, other):
    small = tuple(min(a, b) for a, b in zip(one[0], other[0], strict=True)), one[1]
    narrow, wide = (dilate(data, ball_widths(*f)) for f in (small, one))
    assert (narrow >= data).all()
    assert (wide >= narrow).all()


def test_a_single_peak_becomes_the_footprint_and_the_input_stays():
    data = np.zeros((15, 15, 15), dtype=np.float32)
    data[7, 7, 7] = 1
    before = data.copy()
    radius, size = (1.5, 2.6, 4.0), (3, 7, 9)
    out = dilate(data, ball_widths(radius, size))
    centre = out[6:9, 4:11, 3:12]
    np.testing.assert_array_equal(centre, ball_footprint(radius, size))
    assert out.sum() == ball_footprint(radius, size).sum()
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 2, 2), (3, 1, 4), (5, 5, 5)])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_strided_dilation_is_every_nth_element_of_the_whole(strides, threads):
    data = np.random.default_rng(4).standard_normal((17, 22, 19)).astype(np.float32)
    widths = ball_widths((2.8, 3.1, 1.6), (5, 7, 3))
    every = tuple(slice(None, None, s) for s in strides)
    found = dilate_strided(data, widths, strides, threads=threads)
    np.testing.assert_array_equal(found, dilate(data, widths)[every])
