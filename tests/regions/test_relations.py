"""Who comes with whom is found, and is not found where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

from occupy.regions.choose import Correlation, Tree
from occupy.regions.table import OccupancyTable


def table(values, errors=np.nan) -> OccupancyTable:
    values = np.asarray(values, dtype=float)
    rows, columns = values.shape
    return OccupancyTable(
        tuple(f"r{i}" for i in range(rows)),
        tuple(f"m{i}" for i in range(columns)),
        values,
        np.full(values.shape, errors),
        np.ones(rows),
        np.ones(rows),
        np.full(columns, np.nan),
    )


def test_blocks_that_come_together_and_exclude_each_other() -> None:
    rng = np.random.default_rng(1)
    state = rng.random(30)
    other = rng.random(30)
    rows = np.array([state, state, 1 - state, other, np.full(30, 0.7)])
    found = Correlation.of(table(np.clip(rows + 0.01 * rng.standard_normal(rows.shape), 0, 1)))
    assert found.regions == ("r0", "r1", "r2", "r3")
    assert found.constant == ("r4",)
    assert found.r[0, 1] > 0.98
    assert found.r[0, 2] < -0.98
    assert found.significant[:3, :3].sum() == 6
    assert not found.significant[3].any()
    together, apart = found.pairs()
    assert [p[:2] for p in together] == [("r0", "r1")]
    assert {p[:2] for p in apart} == {("r0", "r2"), ("r1", "r2")}


def test_noise_has_no_partners() -> None:
    """At a false discovery rate of 5 %, next to none of 4950 pairs of noise stand out."""
    found = Correlation.of(table(np.random.default_rng(0).random((100, 12))))
    assert np.triu(found.significant, 1).sum() <= 5
    upper = found.p[np.triu_indices(100, 1)]
    assert np.mean(upper < 0.05) == pytest.approx(0.05, abs=0.015)  # p is a probability


def test_what_varies_no_more_than_its_errors_is_left_out() -> None:
    values = 0.5 + 0.1 * np.random.default_rng(2).standard_normal((6, 10))
    assert len(Correlation.of(table(values)).regions) == 6
    assert len(Correlation.of(table(values, errors=0.2)).regions) == 0


def test_few_maps_prove_nothing() -> None:
    three = Correlation.of(table([[0, 0.5, 1], [0, 0.5, 1], [1, 0.5, 0]]))
    assert three.maps == 3
    assert not three.significant.any()
    assert three.needed == pytest.approx(0.997, abs=1e-3)
    assert Correlation.of(table(np.eye(4))).needed == pytest.approx(0.950, abs=1e-3)
    assert np.isnan(Correlation.of(table([[0, 1], [1, 0]])).needed)


def test_regions_not_read_in_every_map_are_left_out() -> None:
    values = np.random.default_rng(0).random((3, 8))
    values[1, 3] = np.nan
    assert Correlation.of(table(values)).regions == ("r0", "r2")


@pytest.mark.parametrize("make", [Tree.of, lambda rows: Tree.of_correlation(np.corrcoef(rows))])
def test_trees_put_alike_beside_alike(make) -> None:
    rng = np.random.default_rng(5)
    group = np.arange(12) % 3
    centres = rng.random((3, 40))
    tree = make(centres[group] + 0.02 * rng.standard_normal((12, 40)))
    assert sorted(tree.order) == list(range(12))
    assert np.count_nonzero(np.diff(group[tree.order])) == 2


def test_distance_is_the_typical_difference_of_a_value() -> None:
    tree = Tree.of(np.array([[0.0] * 9, [0.3] * 9]))
    assert tree.merges[0, 2] == pytest.approx(0.3)
    assert Tree.of(np.zeros((1, 3))).order.tolist() == [0]
    assert Tree.of_correlation(np.ones((1, 1))).order.tolist() == [0]


def test_unknown_values_do_not_stop_a_tree() -> None:
    tree = Tree.of(np.array([[0.0, np.nan], [np.nan, np.nan], [1.0, 1.0]]))
    assert sorted(tree.order) == [0, 1, 2]
    assert np.isfinite(tree.merges).all()
