"""The percentile of the method, and tiles found without sorting them all."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.numerics.histogram import Tiling, _tile_starts, extreme_tile, tau_of
from strategies import arrays, shapes


@pytest.mark.parametrize(
    ("n", "tau", "digits"),
    [
        (1, 0.5, 15),
        (2, (5**0.5 - 1) / 2, 14),
        (19, 0.890, 3),
        (81, 0.961, 3),
        (93, 0.9647, 4),
        (1100, 0.99516, 5),
    ],
)
def test_known_values_of_tau(n, tau, digits):
    assert tau_of(n) == pytest.approx(tau, abs=0.5 * 10**-digits)


@given(st.integers(1, 10**7))
def test_tau_is_the_root_and_grows(n):
    tau = tau_of(n)
    assert 0 < tau < 1
    # The slope of the left side at the root tells how far rounding may put it from 1.
    slope = n * tau ** (n - 1) + 1
    assert abs(tau**n + tau - 1) <= 4e-16 * slope
    assert tau_of(n + 1) > tau


@pytest.mark.parametrize("n", [0, -3])
def test_tau_needs_a_voxel(n):
    with pytest.raises(ValueError, match=f"not {n}"):
        tau_of(n)


def test_published_tile_positions():
    np.testing.assert_array_equal(_tile_starts(100, 5, 20), np.arange(20) * 5)
    np.testing.assert_array_equal(_tile_starts(128, 6, 20), 4 + np.arange(20) * 6)
    np.testing.assert_array_equal(_tile_starts(256, 12, 20), 8 + np.arange(20) * 12)
    np.testing.assert_array_equal(_tile_starts(100, 12, 20), 6 + np.arange(20) * 4)  # step 12 + ⌊−140/19⌋


@given(st.integers(1, 400), st.data(), st.integers(2, 25))
def test_tiles_lie_inside_evenly_and_centred(length, data, count):
    tile = data.draw(st.integers(1, length))
    starts = _tile_starts(length, tile, count)
    assert len(starts) == count
    assert starts[0] >= 0
    assert starts[-1] + tile <= length
    assert len(set(np.diff(starts))) == 1
    assert np.diff(starts)[0] == tile + (length - count * tile) // (count - 1)
    left, right = starts[0], length - starts[-1] - tile
    assert right - left in (0, 1)
    assert left + right < count - 1


def test_central_tiles_are_a_ball_around_tile_ten():
    use = Tiling.central((100, 100, 100), (5, 5, 5)).use
    assert use.shape == (20, 20, 20)
    assert use.sum() == 2969  # points of the integer lattice nearer than 9 to one of them
    assert use[10, 10, 10]
    assert use[2, 10, 10]
    assert use[18, 10, 10]
    assert not use[1, 10, 10]  # at exactly 9
    assert not use[19, 10, 10]
    for axes in itertools.permutations(range(3)):
        np.testing.assert_array_equal(use, use.transpose(axes))


def statistic(data, start, tile, rank):
    block = data[tuple(slice(s, s + t) for s, t in zip(start, tile, strict=True))]
    assert block.shape == tuple(tile)
    return np.sort(block, axis=None)[rank]


@st.composite
def tilings(draw):
    shape = draw(shapes(1, 11))
    data = draw(arrays(shape))
    tile = tuple(draw(st.integers(1, n)) for n in shape)
    if draw(st.booleans()):
        count = draw(st.integers(2, 6))
        starts = [_tile_starts(n, t, count) for n, t in zip(shape, tile, strict=True)]
    else:
        starts = [
            np.array(draw(st.lists(st.integers(0, n - t), min_size=1, max_size=5)))
            for n, t in zip(shape, tile, strict=True)
        ]
    use = np.random.default_rng(draw(st.integers(0, 99))).random([len(s) for s in starts]) < 0.6
    use.flat[draw(st.integers(0, use.size - 1))] = True
    rank = draw(st.integers(0, int(np.prod(tile)) - 1))
    return data, tuple(starts), tile, use, rank


@given(tilings(), st.booleans())
def test_extreme_tile_is_that_of_brute_force(tiling, largest):
    data, starts, tile, use, rank = tiling
    found = extreme_tile(data, Tiling(starts, tile, use), rank, largest=largest)
    corners = [tuple(int(s[i]) for s, i in zip(starts, index, strict=True)) for index in np.argwhere(use)]
    values = [statistic(data, corner, tile, rank) for corner in corners]
    assert found.value == (max(values) if largest else min(values))
    assert found.start in corners
    assert statistic(data, found.start, tile, rank) == found.value


@pytest.mark.parametrize("largest", [True, False])
def test_extreme_tile_of_a_realistic_map(largest):
    rng = np.random.default_rng(5)
    data = rng.standard_normal((60, 55, 50), dtype=np.float32)
    data[20:40, 20:35, 20:30] += 3
    tile = (6, 5, 4)
    tiling = Tiling.central(data.shape, tile)
    starts, use = tiling.starts, tiling.use
    rank = int(0.9 * 120)
    found = extreme_tile(data, tiling, rank, largest=largest)
    corners = [[s[i] for s, i in zip(starts, index, strict=True)] for index in np.argwhere(use)]
    values = [statistic(data, corner, tile, rank) for corner in corners]
    assert found.value == (max(values) if largest else min(values))


def test_the_tile_as_large_as_the_box():
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    starts = (np.array([0]), np.array([0]), np.array([0]))
    found = extreme_tile(data, Tiling(starts, data.shape, np.ones((1, 1, 1), dtype=bool)), 41)
    assert (found.start, found.value) == ((0, 0, 0), 41.0)
