"""The kernels, timed with ``pytest benchmarks --benchmark-enable`` and run once as tests otherwise."""

import numpy as np
import pytest

from occupy.confidence import inscribed_ellipsoid
from occupy.numerics.fourier import FourierBand, lowpass
from occupy.numerics.histogram import Tiling, extreme_tile, two_histograms
from occupy.numerics.morphology import ball_footprint, ball_widths, dilate

N = 128


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).standard_normal((N, N, N), dtype=np.float32)


@pytest.mark.parametrize(("radius", "side"), [(1.5, 3), (2.6, 5), (3.77, 9)])
def test_dilation(benchmark, data, radius, side):
    widths = ball_widths((radius,) * 3, (side,) * 3)
    out = benchmark(dilate, data, widths)
    middle = data[
        64 - side // 2 : 65 + side // 2, 64 - side // 2 : 65 + side // 2, 64 - side // 2 : 65 + side // 2
    ]
    assert out[64, 64, 64] == middle[ball_footprint((radius,) * 3, (side,) * 3)].max()


@pytest.mark.parametrize("shells", [17.0, 42.7])
def test_low_pass(benchmark, data, shells):
    out = benchmark(lowpass, data, FourierBand.sphere(data.shape, (shells,) * 3))
    assert out.mean() == pytest.approx(data.mean(), abs=1e-6)
    assert 0 < out.std() < data.std()


@pytest.mark.parametrize("side", [6, 40])
def test_full_scale_tile(benchmark, data, side):
    tiling = Tiling.central((N, N, N), (side, side, side))
    rank = int(0.96 * side**3)
    best = benchmark(extreme_tile, data, tiling, rank)
    block = data[tuple(slice(s, s + side) for s in best.start)]
    assert best.value == np.sort(block, axis=None)[rank]


def test_histogram(benchmark, data):
    everything, inside = benchmark(two_histograms, data, inscribed_ellipsoid(data.shape), -6.0, 6.0, 1000)
    assert everything.counts.sum() == data.size > inside.counts.sum()
