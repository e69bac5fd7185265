"""Conditions on a table of occupancies: read, evaluated, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.errors import InputError
from occupy.regions.choose import _Joined, _Limit, _parse_condition, expected_composition
from occupy.regions.table import OccupancyTable

NAMES = ("L17", "CP", "ruvB ring")


def table(values: object, errors: object = 0.05) -> OccupancyTable:
    data = np.array(values, dtype=float)
    spread = np.broadcast_to(np.array(errors, dtype=float), data.shape)
    maps = tuple(f"class{i + 1}" for i in range(data.shape[1]))
    ones = np.ones(len(data))
    return OccupancyTable(NAMES[: len(data)], maps, data, spread, ones, ones, np.full(len(maps), np.nan))


def chosen(text: str, read: OccupancyTable) -> list[int]:
    return (np.flatnonzero(_parse_condition(text).verdict(read).chosen) + 1).tolist()


READ = table([[0.9, 0.2, 0.8, 0.7], [0.9, 0.9, 0.1, 0.5], [0.0, 0.3, 0.6, 1.0]])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("L17 >= 0.7", [1, 3, 4]),
        ("L17>=0.7", [1, 3, 4]),
        ("L17 < 0.7", [2, 4]),
        ("L17 ge 0.7 and CP le 0.3", [3]),
        ("L17 >= 0.7 and CP <= 0.3", [3]),
        ("L17 >= 0.7 AND (CP <= 0.3 OR 'ruvB ring' > 0.9)", [3, 4]),
        ('L17 <= 0.3 or CP <= 0.3 and "ruvB ring" > 0.5', [2, 3]),
        ('(L17 <= 0.3 or CP <= 0.3) and "ruvB ring" > 0.5', [3]),
    ],
)
def test_conditions(text: str, wanted: list[int]) -> None:
    assert chosen(text, READ) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "missing at the end"),
        ("L17", "should be >= or <="),
        ("L17 >= high", "between 0 and 1"),
        ("L17 >= 1.5", "between 0 and 1"),
        ("L17 >= nan", "between 0 and 1"),
        ("L17 >= 0.5 CP", "what is 'CP'"),
        ("(L17 >= 0.5", "not closed"),
        ("L17 >= 0.5 and", "missing at the end"),
        ("'L17 >= 0.5", "cannot read"),
    ],
)
def test_conditions_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _parse_condition(text)


def test_an_unknown_region_is_named_with_what_is_near() -> None:
    with pytest.raises(InputError, match="did you mean L17"):
        _parse_condition("L7 >= 0.5").verdict(READ)


names = st.sampled_from(NAMES)
limits = st.builds(_Limit, names, st.integers(0, 20).map(lambda n: n / 20), st.booleans())
conditions = st.recursive(
    limits,
    lambda inner: st.builds(_Joined, st.lists(inner, min_size=2, max_size=3).map(tuple), st.booleans()),
    max_leaves=6,
)
numbers = st.lists(st.integers(0, 100).map(lambda n: n / 100), min_size=12, max_size=12)


@given(condition=conditions, values=numbers)
def test_a_condition_as_text_means_the_same(condition: _Limit | _Joined, values: list[float]) -> None:
    read = table(np.reshape(values, (3, 4)))
    again = _parse_condition(str(condition)).verdict(read)
    for ours, theirs in zip(condition.verdict(read), again, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(condition=conditions, values=numbers, error=st.sampled_from([0.0, 0.01, 0.1, 1.0]))
def test_what_is_sure_agrees_with_the_choice(
    condition: _Limit | _Joined, values: list[float], error: float
) -> None:
    verdict = condition.verdict(table(np.reshape(values, (3, 4)), error))
    assert not np.any(verdict.surely & ~verdict.chosen)
    assert not np.any(verdict.surely & verdict.surely_not)
    # At the threshold itself, "not below" and "not above" both hold, and neither is sure.
    at_threshold = np.any([np.isclose(values, limit.threshold) for limit in condition.limits()])
    assert at_threshold or not np.any(verdict.surely_not & verdict.chosen)


def test_the_interval_decides_what_is_sure() -> None:
    verdict = _Limit("L17", 0.7).verdict(table([[0.9, 0.75, 0.65, 0.5]], 0.05))
    assert verdict.surely.tolist() == [True, False, False, False]
    assert verdict.surely_not.tolist() == [False, False, False, True]
    assert verdict.undecided.tolist() == [False, True, True, False]


def test_one_sure_part_settles_the_whole() -> None:
    read = table([[0.1, 0.9], [0.5, 0.5]], 0.05)
    both = _parse_condition("L17 >= 0.5 and CP >= 0.5").verdict(read)
    assert both.undecided.tolist() == [False, True]
    either = _parse_condition("L17 >= 0.5 or CP >= 0.5").verdict(read)
    assert either.undecided.tolist() == [True, False]


def test_what_is_not_known_is_neither_chosen_nor_sure() -> None:
    read = table([[np.nan, 0.9]], [[0.05, np.nan]])
    for present in (True, False):
        verdict = _Limit("L17", 0.5, present).verdict(read)
        assert verdict.chosen.tolist() == [False, present]
        assert verdict.undecided.tolist() == [True, True]


@given(values=numbers, counts=st.lists(st.integers(1, 1000), min_size=4, max_size=4))
def test_selection_and_rest_make_up_the_whole(values: list[float], counts: list[int]) -> None:
    read = table(np.reshape(values, (3, 4)))
    weights = dict(zip(read.maps, map(float, counts), strict=True))
    flags = np.array([True, False, True, False])
    found = expected_composition(read, flags, weights)
    taken = counts[0] + counts[2]
    whole = (found.selected * taken + found.rest * (sum(counts) - taken)) / sum(counts)
    np.testing.assert_allclose(whole, read.values @ np.array(counts) / sum(counts))
    np.testing.assert_allclose(found.selected_error, 0.05)


def test_a_class_without_a_value_and_without_particles_does_no_harm() -> None:
    read = table([[0.5, np.nan]])
    found = expected_composition(read, np.array([True, True]), {"class1": 10.0, "class2": 0.0})
    assert found.selected.tolist() == [0.5]
    assert np.isnan(found.rest).all()
