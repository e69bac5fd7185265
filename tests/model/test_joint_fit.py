from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from joint_model import SHAPE, TRUTH, VOXEL, clean_map, densities, molecule
from occupy.errors import InputError
from occupy.model import AtomicModel
from occupy.model.density import map_coefficients
from occupy.model.fit import _chains_of, finest_detail, fit_parts, fit_set
from occupy.model.level import Level, full_elsewhere
from occupy.model.solve import Products, _inverse, solve, solve_all


def test_without_noise_the_truth_is_found():
    fit = fit_parts(clean_map(), VOXEL, molecule())
    assert fit.names == tuple(TRUTH)
    np.testing.assert_allclose(fit.values, list(TRUTH.values()), atol=2e-3)
    relative = fit.unlimited / fit.unlimited[[0, 2, 4]].mean()
    np.testing.assert_allclose(relative, list(TRUTH.values()), atol=1e-3)
    assert ((fit.low <= fit.values) & (fit.values <= fit.high)).all()


@pytest.mark.parametrize("b_factor", [-100.0, 250.0])
def test_sharpening_changes_nothing(b_factor: float):
    raw = fit_parts(clean_map(), VOXEL, molecule())
    other = fit_parts(3.7 * clean_map(b_factor=b_factor), VOXEL, molecule())
    np.testing.assert_allclose(other.values, raw.values, atol=2e-3)


def test_order_and_names_of_parts_change_nothing():
    noise = np.random.default_rng(0).normal(size=SHAPE) * clean_map().std()
    parts = _chains_of(molecule())
    first = fit_parts(clean_map() + noise, VOXEL, molecule(), parts)
    turned = {f"part {name}": parts[name] for name in reversed(parts)}
    second = fit_parts(clean_map() + noise, VOXEL, molecule(), turned)
    np.testing.assert_allclose(second.values[::-1], first.values, atol=2.1e-3)
    np.testing.assert_allclose(second.unlimited[::-1], first.unlimited, atol=1e-3)


def test_a_split_part_changes_nothing_but_itself():
    parts = _chains_of(molecule())
    along_x = parts["B"][np.argsort(molecule().xyz[parts["B"], 0])]
    halves = {"B1": along_x[:60], "B2": along_x[60:]}
    split = {k: v for k, v in parts.items() if k != "B"} | halves
    fit = fit_parts(clean_map(), VOXEL, molecule(), split, resolution=6.0)
    found = dict(zip(fit.names, fit.values, strict=True))
    assert found["B1"] == pytest.approx(0.6, abs=0.01)
    assert found["B2"] == pytest.approx(0.6, abs=0.01)
    assert found["A"] == pytest.approx(1, abs=0.004)
    assert found["D"] == pytest.approx(0, abs=0.004)


def test_atoms_of_no_part_are_fitted_too():
    parts = _chains_of(molecule())
    fit = fit_parts(clean_map(), VOXEL, molecule(), {name: parts[name] for name in "ABC"})
    assert fit.names == ("A", "B", "C")
    # D and E are one part then, half of it absent, so the map is not quite explained.
    np.testing.assert_allclose(fit.unlimited / fit.unlimited[0], [1, 0.6, 1], atol=0.08)


def without(chain: str) -> AtomicModel:
    """Return the molecule without one of its chains."""
    whole = molecule()
    kept = ~np.isin(whole.residue, whole.residues_by_chain[chain])
    rows, residue = np.unique(whole.residue[kept], return_inverse=True)
    residues = tuple(whole.residues[row] for row in rows)
    return AtomicModel(("m",), whole.xyz[kept], residue, whole.trace[kept], residues, whole.elements[kept])


def test_density_without_a_model_is_not_given_to_its_neighbours(monkeypatch: pytest.MonkeyPatch):
    truth = [TRUTH[name] for name in "ABDE"]
    fit = fit_parts(clean_map(), VOXEL, without("C"))
    assert fit.names == ("A", "B", "D", "E")
    np.testing.assert_allclose(fit.values, truth, atol=0.02)
    # What is left over still shows it.
    chain = molecule().xyz[_chains_of(molecule())["C"]]
    x, y, z = (chain.mean(axis=0) / VOXEL[0] - fit.lattice.start[::-1]).astype(int)
    assert fit.residual[z, y, x] > 5 * np.median(np.abs(fit.residual))
    monkeypatch.setattr("occupy.model.fit._UNMODELLED_ROUNDS", 0)
    given = fit_parts(clean_map(), VOXEL, without("C"))
    assert np.abs(given.values - truth).max() > 0.04


def test_one_part_is_full_whatever_the_scale():
    truth = dict.fromkeys(TRUTH, 1.0)
    everything = {"all": np.arange(len(molecule().xyz))}
    first = fit_parts(clean_map(truth), VOXEL, molecule(), everything)
    second = fit_parts(0.01 * clean_map(truth), VOXEL, molecule(), everything)
    assert first.values[0] == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(second.scale / first.scale, 0.01, rtol=1e-3)


def test_covariance_is_the_scatter_over_noise_draws():
    lattice, rows = densities()
    clean, rng = clean_map(), np.random.default_rng(1)
    draws = np.array([clean + rng.normal(size=SHAPE) * clean.std() for _ in range(100)])
    products = Products.of(rows, np.array([map_coefficients(d, lattice) for d in draws]), lattice)
    solutions = [solve(products, which) for which in range(100)]
    # On a common scale: the gauge fixes the mean over parts, which the noise moves a little.
    found = np.array([s.occupancy for s in solutions])
    stated = np.mean([np.diag(s.covariance)[:5] for s in solutions], axis=0)
    np.testing.assert_allclose(found.var(axis=0, ddof=1), stated, rtol=0.5)
    stated_pair = np.mean([s.covariance[0, 1] for s in solutions])
    assert np.cov(found.T)[0, 1] == pytest.approx(stated_pair, abs=0.5 * np.sqrt(stated[0] * stated[1]))


def test_intervals_hold_with_noise():
    rng, clean = np.random.default_rng(2), clean_map()
    truth = np.array(list(TRUTH.values()))
    inside = []
    for _ in range(6):
        fit = fit_parts(clean + rng.normal(size=SHAPE) * clean.std(), VOXEL, molecule())
        inside.append((fit.low - 1e-3 <= truth) & (truth <= fit.high + 1e-3))
    assert np.mean(inside) > 0.85


def test_the_highest_parts_are_full_where_few_are():
    rng = np.random.default_rng(3)
    truth = np.array([1.0, 1.0, 1.0, 0.5, 0.45, 0.5, 0.55, 0.3, 0.6, 0.4, 0.5, 0.2])
    level = Level.of(3 * truth + rng.normal(size=12) * 0.03, np.full(12, 0.03))
    assert level.full == pytest.approx(3, rel=0.03)
    np.testing.assert_allclose(level.values, truth, atol=0.05)
    assert level.chance_full[:3].min() > 0.3
    assert level.chance_full[3:].max() < 0.01


def test_wrong_input_is_refused():
    data, model, parts = clean_map(), molecule(), _chains_of(molecule())
    with pytest.raises(InputError, match="not numbers"):
        fit_parts(np.full(SHAPE, np.nan), VOXEL, model)
    with pytest.raises(InputError, match="three axes"):
        fit_parts(data[0], VOXEL, model)
    with pytest.raises(InputError, match="empty"):
        fit_parts(np.zeros(SHAPE), VOXEL, model)
    with pytest.raises(InputError, match="no atoms"):
        fit_parts(data, VOXEL, model, {"A": parts["A"], "none": np.array([], dtype=int)})
    with pytest.raises(InputError, match="two parts"):
        fit_parts(data, VOXEL, model, {"A": parts["A"], "again": parts["A"][:10]})
    with pytest.raises(InputError, match="does not have"):
        fit_parts(data, VOXEL, model, {"A": np.array([10_000])})
    with pytest.raises(InputError, match="outside the map"):
        fit_parts(data, VOXEL, model, origin=(500.0, 0.0, 0.0))
    with pytest.raises(InputError, match="voxel size"):
        fit_parts(data, (2.5, 0.0, 2.5), model)


def test_a_set_is_fitted_like_its_maps():
    other = {"A": 1.0, "B": 0.1, "C": 1.0, "D": 0.5, "E": 1.0}
    fits = fit_set({"one": clean_map(), "two": 5 * clean_map(other, 150.0)}, VOXEL, molecule())
    np.testing.assert_allclose(fits["one"].values, list(TRUTH.values()), atol=0.01)
    np.testing.assert_allclose(fits["two"].values, list(other.values()), atol=0.01)
    with pytest.raises(InputError, match="one size"):
        fit_set({"one": clean_map(), "two": clean_map()[1:]}, VOXEL, molecule())


def test_a_set_shares_the_b_factors_of_its_parts():
    rng, clean = np.random.default_rng(6), clean_map()
    noisy = {str(k): (lambda k=k: clean + draws[k] * clean.std()) for k in range(3)}
    draws = [rng.normal(size=SHAPE) for _ in range(3)]
    together = fit_set(noisy, VOXEL, molecule())
    alone = [fit_parts(noisy[name](), VOXEL, molecule()) for name in noisy]
    spread_of_b = np.std([fit.b_factors for fit in together.values()], axis=0).mean()
    assert spread_of_b < 0.7 * np.std([fit.b_factors for fit in alone], axis=0).mean()
    truth = np.array(list(TRUTH.values()))
    off = [np.abs(fit.values - truth).mean() for fit in together.values()]
    assert np.mean(off) <= np.mean([np.abs(fit.values - truth).mean() for fit in alone]) + 0.002
    with pytest.raises(InputError, match="no maps"):
        fit_set({}, VOXEL, molecule())


def test_no_shell_decides_alone_in_a_set():
    lattice, rows = densities()
    maps = np.array([map_coefficients(clean_map(), lattice)] * 2)
    products = Products.of(rows, maps, lattice)
    power = products.power[0] / products.count
    assert (solve(products).noise < 1e-3 * power).all()
    # Classes differ by more than their particles in strong shells: a share of the power is noise in them.
    for solution in solve_all(products):
        np.testing.assert_allclose(solution.noise, 0.2 * power, rtol=0.01)


def test_at_least_one_part_is_full():
    """Where one of three parts is highest it is full, though two in three of the priors say that none is."""
    level = Level.of(np.array([2.0, 1.0, 0.4]), np.full(3, 0.01))
    np.testing.assert_allclose(level.values, [1, 0.5, 0.2], atol=0.02)
    assert level.error / level.full < 0.06


def test_small_parts_have_larger_errors_of_the_model():
    occupancy, errors = np.array([1.0, 1.0, 0.98, 1.02, 0.5, 0.5]), np.full(6, 0.005)
    sizes = np.array([4000.0, 4000, 4000, 4000, 4000, 250])
    level = Level.of(occupancy, errors, sizes=sizes)
    assert level.model_errors[5] == pytest.approx(4 * level.model_errors[4], rel=0.01)
    assert level.high[5] - level.low[5] > 1.5 * (level.high[4] - level.low[4])


def test_a_model_that_fits_nowhere_gives_numbers_or_a_word():
    scattered = replace(molecule(), xyz=np.random.default_rng(3).uniform(5, 65, size=molecule().xyz.shape))
    assert np.isfinite(fit_parts(clean_map(), VOXEL, scattered).values).all()
    with pytest.raises(InputError, match="can't be fitted"):
        _inverse(np.full((3, 3), np.nan))


def test_what_rounding_leaves_below_zero_is_unknown_and_no_error():
    # Two parameters of very different size, and two that the data can't tell apart, made worse by rounding.
    rng = np.random.default_rng(3)
    columns = rng.standard_normal((200, 4)) * [1e6, 1.0, 1e-6, 1.0]
    columns[:, 3] = columns[:, 1]
    normal = columns.T @ columns
    normal[1, 3] = normal[3, 1] = normal[1, 1] * (1 + 1e-13)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(normal)
    inverse = _inverse(normal)
    known = [0, 2]
    expected = np.linalg.inv(normal[np.ix_(known, known)])
    np.testing.assert_allclose(np.diag(inverse)[known], np.diag(expected), rtol=0.05)
    # The sum of the twins is known, their difference is not.
    assert np.array([0, 1, 0, 1]) @ inverse @ [0, 1, 0, 1] < 0.02
    assert np.array([0, 1, 0, -1]) @ inverse @ [0, 1, 0, -1] > 1e6


def test_what_is_drawn_to_full_keeps_the_error_from_before():
    read = np.array([1.02, 0.97, 1.02, 0.98])
    level = Level.of(read, np.full(4, 0.005), sizes=np.full(4, 1100.0))
    np.testing.assert_allclose(level.values, 1, atol=1e-3)
    assert level.errors.min() > 0.01
    assert ((level.low <= read) & (level.low < 0.985) & (level.high == 1)).all()


def test_nucleic_acid_may_have_a_full_level_of_its_own():
    truth = np.array([1, 1, 1, 1, 0.5, 1, 1, 1, 0.4])
    nucleic = np.arange(9) >= 5
    read = truth * np.where(nucleic, 1.09, 1.0)
    level = Level.of(read, np.full(9, 0.008), nucleic=nucleic)
    np.testing.assert_allclose(level.values, truth, atol=0.015)
    assert level.fulls[-1] / level.fulls[0] == pytest.approx(1.09, abs=0.02)
    assert np.abs(Level.of(read, np.full(9, 0.008)).values - truth).max() > 0.02


def test_a_part_that_is_partial_in_one_class_is_seldom_full_in_another():
    read = np.array([[1, 1, 1, 0.94], [1, 1, 1, 0.5], [1, 1, 1, 0.2]])
    levels = [Level.of(row, np.full(4, 0.03)) for row in read]
    likely = full_elsewhere(levels)
    assert likely[0, 3] == pytest.approx(0.2, abs=0.02)
    assert likely[:, :3].min() > 0.6
    alone, together = levels[0], Level.of(read[0], np.full(4, 0.03), likely_full=likely[0])
    assert together.chance_full[3] < 0.6 * alone.chance_full[3]
    # One map says nothing about itself.
    np.testing.assert_allclose(full_elsewhere(levels[:1])[0], levels[0].share)


def test_the_error_of_a_wrong_model_is_seen_in_the_pieces_of_its_parts():
    rng, clean = np.random.default_rng(8), clean_map()
    noisy = clean + rng.normal(size=SHAPE) * 0.3 * clean.std()
    moved = replace(molecule(), xyz=molecule().xyz + rng.normal(size=molecule().xyz.shape) * 1.5)
    right, wrong = (fit_parts(noisy, VOXEL, model) for model in (molecule(), moved))
    assert wrong.level.model_error > 1.5 * right.level.model_error
    assert wrong.errors.mean() > 1.5 * right.errors.mean()


def test_small_parts_are_looked_at_more_closely_where_the_grid_allows():
    assert finest_detail(43, (1.2, 1.2, 1.2)) < finest_detail(430, (1.2, 1.2, 1.2))
    assert finest_detail(43, (1.2, 1.2, 2.75)) == finest_detail(430, (1.2, 1.2, 1.2))
