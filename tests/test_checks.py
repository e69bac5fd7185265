"""Unsuitable maps are recognised, in one pass, by any number of threads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.checks import MapFacts, input_notices, look_at
from occupy.errors import InputError
from occupy.volume import Frame, Volume
from strategies import arrays


def volume(data, voxel=1.5, **frame):
    made = Volume.from_array(np.asarray(data, np.float32), voxel, "given")
    return replace(made, frame=replace(made.frame, **frame))


def noise(shape=(16, 14, 13), seed=1):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@given(arrays((14, 13, 12), kinds=("noise", "offset")), st.floats(0.3, 0.9), st.booleans())
def test_range_and_share_of_equal_voxels(data, share, zero):
    """The flat value may be zero with another value in the first voxel, or that voxel's value."""
    value = np.float32(0 if zero else data[0, 0, 0])
    data[:, :, int(12 * (1 - share)) :] = value
    facts = look_at(volume(data))
    assert (facts.low, facts.high) == (data.min(), data.max())
    shares = {float(v): float(np.mean(data == v)) for v in (data[0, 0, 0], np.float32(0))}
    assert facts.flat_share == pytest.approx(max(shares.values()))
    assert shares[facts.flat_value] == pytest.approx(facts.flat_share)
    assert facts.masked


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_nothing(threads):
    data = noise((70, 60, 65))
    data[data < 0] = 0.5
    assert look_at(volume(data), threads=threads) == look_at(volume(data))


@pytest.mark.parametrize("value", [0.0, -0.7, 0.013])
@pytest.mark.parametrize("outside", [True, False])
def test_masked_maps_are_known_by_their_equal_voxels(value, outside):
    data = noise((30, 30, 30))
    assert not look_at(volume(data)).masked
    z, y, x = np.ogrid[:30, :30, :30]
    ball = (z - 15) ** 2 + (y - 15) ** 2 + (x - 15) ** 2 < 12**2
    if outside or value == 0:
        data[ball ^ outside] = value
        facts = look_at(volume(data))
        assert facts.masked
        assert facts.flat_value == np.float32(value)
        assert facts.flat_share == pytest.approx(np.mean(data == np.float32(value)))


def test_maps_of_few_different_values_are_not_taken_for_masked():
    """As 8-bit files hold; but masked ones of them are."""
    data = np.rint(8 * noise((30, 30, 30)))
    data[0, 0, 0] = 0
    assert np.mean(data == 0) > MapFacts.masked_share
    assert not look_at(volume(data)).masked
    z, y, x = np.ogrid[:30, :30, :30]
    data[(z - 15) ** 2 + (y - 15) ** 2 + (x - 15) ** 2 > 12**2] = 0
    facts = look_at(volume(data))
    assert facts.masked
    assert facts.flat_share == pytest.approx(np.mean(data == 0))


def test_a_few_equal_voxels_are_no_mask():
    """Two values of a float map may be equal by chance."""
    data = noise((30, 30, 30))
    data.flat[: int(0.9 * MapFacts.masked_share * data.size)] = 0
    assert not look_at(volume(data)).masked
    data.flat[: int(1.1 * MapFacts.masked_share * data.size)] = 0
    assert look_at(volume(data)).masked


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (15, 13, 12), (7, 3, 9)])
def test_values_that_are_not_finite(value, place):
    data = noise()
    data[place] = value
    data[1, 2, 3] = value
    with pytest.raises(InputError, match="given: 2 voxels are not finite numbers"):
        look_at(volume(data))


def test_a_map_of_nothing_but_nan():
    with pytest.raises(InputError, match="1728 voxels are not finite"):
        look_at(volume(np.full((12, 12, 12), np.nan)))


@pytest.mark.parametrize("value", [0.0, -3.25])
def test_constant_maps(value):
    with pytest.raises(InputError, match=r"constant \(-?\d.*everywhere\)"):
        look_at(volume(np.full((12, 13, 14), value)))


def test_one_voxel_that_differs_is_enough():
    data = np.zeros((12, 13, 14))
    data[11, 12, 13] = 1
    assert look_at(volume(data)).high == 1


@pytest.mark.parametrize("shape", [(1, 40, 40), (40, 1, 40), (40, 40, 1)])
def test_images_are_no_maps(shape):
    size = " x ".join(map(str, shape[::-1]))
    with pytest.raises(InputError, match=rf"2D image \({size}\)"):
        look_at(volume(noise(shape)))


def test_boxes_too_small():
    with pytest.raises(InputError, match="too small: 40 x 11 x 40 voxels, fewer than 12"):
        look_at(volume(noise((40, 11, 40))))
    assert look_at(volume(noise((12, 12, 12)))).low < 0


@pytest.mark.parametrize("group", [401, 402, 630])
def test_stacks_of_volumes(group):
    with pytest.raises(InputError, match=rf"stack of volumes \(space group {group}\)"):
        look_at(volume(noise(), space_group=group))
    assert look_at(volume(noise(), space_group=230))


# --- doubtful -----------------------------------------------------------------------------------------

GOOD = MapFacts(-1.0, 2.0, 0.0, 0.0)


def codes(given_volume, facts=GOOD):
    return [notice.code for notice in input_notices(given_volume, facts)]


def test_an_ordinary_map_is_not_doubted():
    assert codes(volume(noise())) == []
    assert codes(volume(noise((20, 20, 20)), space_group=0)) == []


def test_masks_are_said_with_their_share_and_value():
    (notice,) = input_notices(volume(noise()), MapFacts(-1.0, 2.0, -0.25, 0.667))
    assert notice.code == "masked"
    assert "67% of the voxels are exactly -0.25" in notice.text


def test_a_voxel_size_that_was_never_set():
    assert codes(volume(noise(), 1.0)) == ["voxel-size"]
    assert codes(volume(noise(), (1.0, 1.0, 1.02))) == []
    assert codes(volume(noise(), 1.001)) == []


def test_oblique_cells():
    assert codes(volume(noise(), angles=(90.0, 90.0, 120.0))) == ["cell-angles"]


def test_inverted_contrast():
    assert codes(volume(noise()), MapFacts(-3.1, 2.0, 0.0, 0.0)) == ["contrast"]
    assert codes(volume(noise()), MapFacts(-2.9, 2.0, 0.0, 0.0)) == []


def test_what_looks_like_a_stack_of_images():
    data = noise((30, 20, 20))
    frame = Frame(cell=(30.0, 30.0, 1.5), sampling=(20, 20, 1), space_group=0)
    stack = Volume(data, (1.5, 1.5, 1.5), frame, "given")
    (notice,) = input_notices(stack, GOOD)
    assert notice.code == "stack"
    assert "30 images" in notice.text
    assert codes(replace(stack, frame=replace(frame, space_group=1))) == []
    assert codes(replace(stack, frame=replace(frame, sampling=(20, 20, 30)))) == []
