"""What regions read: medians, and errors of the size they should be."""

from __future__ import annotations

import numpy as np
import pytest

from occupy.errors import InputError
from occupy.regions.region import Region
from occupy.regions.table import (
    OccupancyTable,
    _independent_voxels,
    _standard_error,
    joined,
    read_regions,
)
from occupy.volume import Volume

SHAPE = (6, 7, 8)
GRID = Volume.from_array(np.zeros(SHAPE, np.float32), 2.0)
REGIONS = (
    Region("low", "mask", np.arange(0, 40), SHAPE),
    Region("high", "mask", np.arange(100, 121), SHAPE),
)


def values(low: float, high: float) -> np.ndarray:
    data = np.full(SHAPE, 9.0, np.float32)
    data.flat[:40], data.flat[100:121] = low, high
    data.flat[0] = 100  # a median does not mind
    return data


def test_medians_in_the_order_given_one_map_at_a_time() -> None:
    alive = []

    def maps():
        for i in range(3):
            alive.append(i)
            yield f"m{i}", (values(0.1 * i, 1 - 0.1 * i), None)

    table = read_regions(REGIONS, maps(), GRID, resolution=8, weights={"m1": 0.25})
    assert (table.regions, table.maps) == (("low", "high"), ("m0", "m1", "m2"))
    np.testing.assert_allclose(table.values, [[0, 0.1, 0.2], [1, 0.9, 0.8]], atol=1e-6)
    assert np.isnan(table.errors).all()
    np.testing.assert_array_equal(table.weights, [np.nan, 0.25, np.nan])
    np.testing.assert_array_equal(table.voxels, [40, 21])
    assert table.of_map("m2") == pytest.approx({"low": 0.2, "high": 0.8})
    assert table.of_region("high") == pytest.approx({"m0": 1, "m1": 0.9, "m2": 0.8})
    assert table.reading("low", "m1").value == pytest.approx(0.1)
    for lookup in (
        lambda: table.of_map("x"),
        lambda: table.of_region("x"),
        lambda: table.reading("low", "x"),
    ):
        with pytest.raises(KeyError, match="x"):
            lookup()


def test_arrays_volumes_and_mappings_are_alike() -> None:
    data = values(0.3, 0.6)
    one = read_regions(REGIONS, {"m": data}, GRID, resolution=8)
    other = read_regions(REGIONS, {"m": (GRID.with_data(data), None)}, GRID, resolution=8)
    np.testing.assert_array_equal(one.values, other.values)


def test_errors_follow_from_uncertainty_cells_and_the_systematic_part() -> None:
    spread = np.full(SHAPE, 0.3, np.float32)
    spread.flat[100:121] = np.tile([0.1, 0.5, 0.3], 7)
    table = read_regions(REGIONS, {"m": (values(0, 1), spread)}, GRID, resolution=4, systematic=0.02)
    np.testing.assert_allclose(table.independent, [40 * 8 / 64, 21 * 8 / 64])
    wanted = [
        np.sqrt(0.09 / 5 + 0.0004),
        np.sqrt((0.01 + 0.25 + 0.09) / 3 / 2.625 + 0.0004),
    ]
    np.testing.assert_allclose(table.errors[:, 0], wanted, rtol=1e-6)


def test_the_error_of_a_mean_of_independent_voxels_is_right() -> None:
    """With a voxel per cell, the spread of the mean over many draws is the standard error."""
    rng = np.random.default_rng(0)
    means = (rng.standard_normal((4000, 25)) * 0.2).mean(1)
    found = _standard_error(np.full(25, 0.2), _independent_voxels(25, 1.0, 1.0), 0.0)
    assert found == pytest.approx(means.std(), rel=0.05)


def test_independent_voxels_are_at_least_one_and_at_most_all() -> None:
    assert _independent_voxels(10, 1.0, 100.0) == 1
    assert _independent_voxels(10, 1.0, 0.5) == 10
    assert _independent_voxels(1000, 2.0, 10.0) == 2


def test_intervals_stay_between_absent_and_present() -> None:
    table = OccupancyTable(
        ("a", "b", "c"),
        ("m",),
        np.array([[0.05], [0.5], [1.05]]),
        np.array([[0.1]] * 3),
        np.ones(3),
        np.ones(3),
        np.ones(1),
    )
    np.testing.assert_allclose(table.low[:, 0], [0, 0.5 - 0.196, 1.05 - 0.196], atol=1e-3)
    np.testing.assert_allclose(table.high[:, 0], [0.05 + 0.196, 0.5 + 0.196, 1.05], atol=1e-3)
    assert not table.values.flags.writeable


def test_what_makes_no_table() -> None:
    with pytest.raises(InputError, match="no regions"):
        read_regions([], {"m": values(0, 1)}, GRID, resolution=8)
    with pytest.raises(InputError, match="no maps"):
        read_regions(REGIONS, {}, GRID, resolution=8)
    with pytest.raises(InputError, match="resolution must be"):
        read_regions(REGIONS, {"m": values(0, 1)}, GRID, resolution=0)
    with pytest.raises(InputError, match=r"m is \(3, 3, 3\) voxels"):
        read_regions(REGIONS, {"m": np.zeros((3, 3, 3))}, GRID, resolution=8)
    with pytest.raises(InputError, match="uncertainty of m is"):
        read_regions(REGIONS, {"m": (values(0, 1), np.zeros((3, 3, 3)))}, GRID, resolution=8)
    with pytest.raises(ValueError, match="2 weights for 1 maps"):
        read_regions(REGIONS, {"m": values(0, 1)}, GRID, resolution=8, weights=[1, 2])
    with pytest.raises(InputError, match="two regions of a table are called low"):
        read_regions((REGIONS[0], REGIONS[0]), {"m": values(0, 1)}, GRID, resolution=8)


def test_joined_tables_keep_the_width_of_their_intervals() -> None:
    one, two, other = (
        read_regions(REGIONS, {name: values(0.2, 0.8)}, GRID, resolution=4.0, reach_95=reach)
        for name, reach in (("a", 3.18), ("b", 3.18), ("c", 1.96))
    )
    assert joined([one, two]).reach_95 == 3.18
    with pytest.raises(ValueError, match="intervals"):
        joined([one, other])
