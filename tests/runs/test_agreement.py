"""Agreement of runs: identities, the null distribution, symmetry-expanded particles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from occupy.runs.agreement import (
    Agreement,
    Entries,
    Partition,
    _p_value,
    _shuffles,
    adjusted_rand,
    class_agreement,
    contingency,
    match,
    merged_rows,
    rand_of,
    share_error,
)


def single(count: int) -> Entries:
    return Entries.of(np.arange(count))


def random_run(rng: np.random.Generator, count: int = 300, classes: int = 3) -> Partition:
    return Partition.of("random", rng.choice(classes, count, p=[0.5, 0.3, 0.2]))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60))
@settings(max_examples=50, deadline=None)
def test_adjusted_rand_is_the_pair_counting_formula(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs).T
    upper = np.triu_indices(len(a), 1)
    one, other = ((x[:, None] == x)[upper] for x in (a, b))
    both, chance = (one & other).sum(), one.sum() * other.sum() / len(one)
    most = (one.sum() + other.sum()) / 2
    expected = 1.0 if most == chance else (both - chance) / (most - chance)
    assert adjusted_rand(a.tolist(), b.tolist()) == pytest.approx(expected)
    assert adjusted_rand(b.tolist(), [f"x{value}" for value in a]) == pytest.approx(expected)


def test_names_of_classes_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 500)
    renamed = np.array([2, 0, 3, 1])[labels]
    table = contingency(labels, renamed, 4, 4)
    assert match(table).tolist() == [2, 0, 3, 1]
    assert rand_of(table) == 1
    assert class_agreement(table, match(table)) == pytest.approx(1)


def test_more_classes_than_the_other_run_leave_one_without_partner() -> None:
    table = np.array([[50, 0], [0, 30], [0, 20]])
    assert match(table).tolist() == [0, 1, -1]
    assert class_agreement(table, match(table))[2] == 0
    assert merged_rows(table) == {1: (1, 2)}
    assert merged_rows(table.T) == {}


def test_a_class_that_holds_nearly_everything_merges_nothing_by_chance() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, 3000), (rng.random(3000) < 0.2).astype(int)
    assert merged_rows(contingency(a, b, 3, 2)) == {}


def test_p_values_are_uniform_for_random_partitions() -> None:
    rng = np.random.default_rng(7)
    found = [
        Agreement.of([random_run(rng), random_run(rng)], single(300), draws=99, seed=i) for i in range(200)
    ]
    overall = np.array([each.p_value for each in found])
    of_class = np.array([each.pairs[0].class_p_values[0] for each in found])
    for values in (overall, of_class):
        # Values stand on the hundredths; half a step of noise makes them continuous, as the test wants.
        spread = values - rng.random(200) / 100
        assert stats.kstest(spread, "uniform").pvalue > 0.01
    assert np.mean(overall <= 0.05) < 0.1


def test_random_partitions_that_ignore_copies_would_be_far_too_sure() -> None:
    rng = np.random.default_rng(4)
    of = Entries.of(np.repeat(np.arange(60), 6))
    runs = [[Partition.of("r", np.repeat(rng.integers(0, 3, 60), 6)) for _ in range(2)] for _ in range(100)]
    right = np.array([Agreement.of(pair, of, draws=99, seed=i).p_value for i, pair in enumerate(runs)])
    wrong = np.array(
        [Agreement.of(pair, single(360), draws=99, seed=i).p_value for i, pair in enumerate(runs)]
    )
    assert np.mean(right <= 0.05) < 0.12
    assert np.mean(wrong <= 0.05) > 0.3


def test_shuffles_keep_the_entries_of_a_particle_together() -> None:
    particle = np.array([0, 1, 1, 2, 2, 3, 0, 4])
    order = next(_shuffles(Entries.of(particle), np.random.default_rng(0)))
    assert sorted(order.tolist()) == list(range(8))
    moved = particle[order]
    for one in range(5):
        assert len(set(moved[particle == one].tolist())) == 1


def test_real_agreement_is_found_in_every_class_that_has_it() -> None:
    rng = np.random.default_rng(5)
    true = rng.choice(3, 2000, p=[0.5, 0.3, 0.2])
    noisy = [np.where(rng.random(2000) < 0.3, rng.integers(0, 3, 2000), true) for _ in range(3)]
    found = Agreement.of([Partition.of(f"{i}", each) for i, each in enumerate(noisy)], single(2000))
    assert found.p_value == pytest.approx(1 / (found.draws + 1))
    assert len(found.pairs) == 3
    for pair in found.pairs:
        assert pair.partner.tolist() == [0, 1, 2]
        assert (pair.class_p_values < 0.01).all()
        assert pair.by_chance[0] == pytest.approx(0, abs=0.002)


def test_p_values_count_the_observed_among_the_random() -> None:
    assert _p_value(2.0, [0.0, 1.0, 3.0]) == 0.5
    assert _p_value(9.0, [0.0] * 99) == 0.01


@pytest.mark.parametrize("copies", [1, 4])
def test_standard_errors_count_particles(copies: int) -> None:
    rng = np.random.default_rng(6)
    member = np.repeat(rng.random(1000) < 0.3, copies)
    of = Entries.of(np.repeat(np.arange(1000), copies))
    share = member.mean()
    assert share_error(member, of) == pytest.approx((share * (1 - share) / 1000) ** 0.5, rel=0.01)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="indices of 2 classes"):
        Partition("x", (1, 2), np.array([0, 2]))
    with pytest.raises(ValueError, match="2 probabilities of 3 particles"):
        Partition.of("x", [1, 2, 1], [0.5, 1])
    with pytest.raises(ValueError, match="two runs"):
        Agreement.of([Partition.of("x", [1, 2])], single(2))
    with pytest.raises(ValueError, match="2 particles in one partition, 1"):
        adjusted_rand([1, 2], [1])
