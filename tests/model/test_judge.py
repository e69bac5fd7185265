from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from joint_model import SHAPE, TRUTH, VOXEL, clean_map, molecule
from occupy.errors import InputError
from occupy.model import Alternatives
from occupy.model.fit import _chains_of, fit_parts
from occupy.model.judge import (
    check_placement,
    difference,
    likely_shift,
    local_correlations,
    not_separable,
    poor_parts,
    presence,
    with_sums,
)


def noisy(seed: int = 0) -> np.ndarray:
    return clean_map() + np.random.default_rng(seed).normal(size=SHAPE) * clean_map().std()


def test_presence_and_differences():
    fit = fit_parts(noisy(), VOXEL, molecule())
    tests = presence(fit)
    assert tests["A"].present
    assert tests["B"].present
    assert not tests["D"].present
    assert tests["B"].full < 0.01
    assert tests["A"].full > 0.01
    assert 0.01 < tests["D"].limit < 0.5
    more, error = difference(fit, "A", "B")
    assert more == pytest.approx(0.4, abs=4 * error)
    same, none = difference(fit, "A", "A")
    assert same == 0
    assert none == pytest.approx(0, abs=1e-6)
    with pytest.raises(KeyError, match="no part"):
        difference(fit, "A", "Z")


def test_parts_in_one_place_are_not_separable():
    parts = _chains_of(molecule())
    fit = fit_parts(noisy(), VOXEL, molecule())
    assert not_separable(fit) == {}
    # As of two parts whose errors are opposed, and of one that is lost in the noise.
    covariance = fit.covariance.copy()
    covariance[0, 1] = covariance[1, 0] = -0.95 * np.sqrt(covariance[0, 0] * covariance[1, 1])
    covariance[3, 3] = 0.2
    found = not_separable(replace(fit, covariance=covariance))
    assert found == {"A": ("B",), "B": ("A",), "D": ()}
    assert set(parts) == set(fit.names)


def test_a_part_that_is_elsewhere_is_flagged():
    model, parts = molecule(), _chains_of(molecule())
    fit = fit_parts(noisy(), VOXEL, model)
    good = local_correlations(fit, model.xyz, parts)
    assert min(good[name] for name in "ABCE") > 0.5
    assert poor_parts(fit, good) == ()
    assert poor_parts(fit, good | {"A": 0.05}) == ("A",)


def test_a_shifted_model_is_refused_with_the_shift():
    truth = clean_map()
    check_placement(fit_parts(truth, VOXEL, molecule()))
    moved = np.roll(truth, (2, 0, -2), axis=(0, 1, 2))
    fit = fit_parts(moved, VOXEL, molecule())
    shift, now, then = likely_shift(fit)
    assert then > now
    np.testing.assert_allclose(shift, (-5.0, 0.0, 5.0), atol=2.6)
    with pytest.raises(InputError, match="would fit"):
        check_placement(fit)


def test_the_residual_holds_what_has_no_model():
    parts = _chains_of(molecule())
    model = molecule()
    fit = fit_parts(clean_map(), VOXEL, model)
    assert np.abs(fit.residual).max() < 0.02 * clean_map().max()
    assert TRUTH["E"] == 1
    assert set(parts) == set(fit.names)


def test_alternatives_sum_up_to_one_at_most():
    fit = fit_parts(noisy(), VOXEL, molecule())
    found = with_sums(fit, [Alternatives(("A", "B"))])
    assert fit.values[0] + fit.values[1] > 1.5
    assert found.values[0] + found.values[1] == pytest.approx(1, abs=0.02)
    assert found.values[0] > found.values[1]
    np.testing.assert_array_equal(found.values[2:], fit.values[2:])
    # What is within 1 anyway stays where it is.
    loose = with_sums(fit, [Alternatives(("B", "D"))])
    assert loose.values[1] == pytest.approx(fit.values[1], abs=0.03)
    assert loose.values[3] == pytest.approx(fit.values[3], abs=0.03)
    with pytest.raises(InputError, match="no alternatives"):
        with_sums(fit, [Alternatives(("A", "Z"))])


def test_alternatives_that_sum_up_to_one_share_their_error():
    fit = fit_parts(noisy(), VOXEL, molecule())
    found = with_sums(fit, [Alternatives(("B", "D"), complete=True)])
    b, d = (fit.names.index(name) for name in "BD")
    assert fit.values[b] + fit.values[d] < 0.8
    assert found.values[b] + found.values[d] == pytest.approx(1, abs=1e-9)
    # What one has more the other has less: one error for both, and intervals that mirror each other.
    assert found.errors[b] == pytest.approx(found.errors[d], rel=1e-6)
    assert found.low[b] + found.high[d] == pytest.approx(1, abs=1e-6)
    # Two that are measured alike are measured better by their difference: half its error.
    equal = np.diag(np.full(len(fit.names), 0.02**2))
    halves = np.full(len(fit.names), 0.5)
    level = replace(fit.level, error=0.0)
    alike = replace(fit, unlimited=halves, covariance=equal, level=level)
    shared = with_sums(alike, [Alternatives(("B", "D"), complete=True)])
    assert shared.errors[b] == pytest.approx(0.02 / 2**0.5, rel=0.03)
