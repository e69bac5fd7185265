"""Class sets: compositions as drawn, noise as the sizes make it, one frame."""

import numpy as np
import pytest

from occupy.simulation import (
    Processing,
    draw_b_factors,
    draw_classes,
    draw_occupancies,
    neighbour_blocks,
    simulate,
    simulate_classes,
)
from occupy.simulation.potential import shell_means

COLUMNS = ({"G": 0.5}, {"U": 0.0, "V": 0.25})
CLASS3D = Processing(wiener=True, mask="sphere")


@pytest.fixture(scope="module")
def two(three_chains):
    return simulate_classes(three_chains, COLUMNS, weights=(3, 1), half_maps=True, signal_to_noise=4)


# --- class sets -----------------------------------------------------------------------------------------


def test_each_class_is_the_map_of_its_composition(three_chains, two):
    for column, one in zip(COLUMNS, two.classes, strict=True):
        alone = simulate(three_chains, occupancies=column, signal_to_noise=np.inf)
        np.testing.assert_allclose(one.clean, alone.clean, atol=1e-4 * alone.clean.max())
    assert two.occupancies == {"G": (0.5, 1.0), "U": (1.0, 0.0), "V": (1.0, 0.25)}


def test_many_compositions_are_computed_class_by_class_alike(three_chains):
    columns = ({"G": 0.1, "U": 0.2, "V": 0.3}, {"G": 0.4, "U": 0.5, "V": 0.6})
    made = simulate_classes(three_chains, columns, signal_to_noise=np.inf)
    for column, one in zip(columns, made.classes, strict=True):
        alone = simulate(three_chains, occupancies=column, signal_to_noise=np.inf)
        np.testing.assert_allclose(one.map, alone.map, atol=1e-4 * alone.map.max())


def test_noise_variance_is_one_over_the_weight(three_chains, two):
    whole = simulate(three_chains, signal_to_noise=4)
    variance = (whole.map - whole.clean).var()
    assert two.weights == (0.75, 0.25)
    for weight, one in zip(two.weights, two.classes, strict=True):
        assert (one.map - one.clean).var() == pytest.approx(variance / weight, rel=0.02)
    first, second = ((one.map - one.clean).ravel() for one in two.classes)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_class_noise_is_a_factor_on_top(three_chains):
    made = simulate_classes(three_chains, COLUMNS, class_noise=(1, 2))
    first, second = ((one.map - one.clean).std() for one in made.classes)
    assert second / first == pytest.approx(2, rel=1e-3)


def test_the_consensus_is_the_weighted_mean(three_chains, two):
    expected = sum(w * one.map for w, one in zip(two.weights, two.classes, strict=True))
    np.testing.assert_allclose(two.consensus.map, expected, atol=1e-5)
    assert dict(two.consensus.occupancies) == {"G": 0.625, "U": 0.75, "V": 0.8125}
    whole = simulate(three_chains, signal_to_noise=4)
    noise = two.consensus.map - two.consensus.clean
    assert noise.std() == pytest.approx((whole.map - whole.clean).std(), rel=0.06)
    first, second = two.consensus.half_maps
    np.testing.assert_allclose((first + second) / 2, two.consensus.map, atol=1e-5)


def test_class3d_maps_are_cut_at_one_current_resolution(three_chains):
    made = simulate_classes(three_chains, COLUMNS, weights=(9, 1), signal_to_noise=200, processing=CLASS3D)
    resolutions = [one.estimated_resolution for one in made.classes]
    assert resolutions[0] < resolutions[1]
    n = made.consensus.map.shape[0]
    r = np.linalg.norm(np.indices((n, n, n)) - n / 2, axis=0)
    last = round(n * made.consensus.voxel_size / resolutions[0])
    for one in made.classes:
        assert len(one.ssnr) == n // 2 + 1
        assert not one.map[r >= n / 2 + 5].any()
        power = shell_means(np.abs(np.fft.rfftn(one.map.astype(float))) ** 2, n)
        # The mask smears shells a little.
        assert power[last] > 50 * power[last + 4]
    # The consensus is neither masked nor shrunk.
    assert made.consensus.ssnr is None
    assert made.consensus.map[0, 0, 0] != 0


def test_all_maps_of_a_set_have_one_frame(two):
    first, second = ([site.atom.pos.tolist() for site in one.structure[0].all()] for one in two.classes)
    assert first == second == [site.atom.pos.tolist() for site in two.consensus.structure[0].all()]


def test_same_seed_same_set(three_chains, two):
    again = simulate_classes(three_chains, COLUMNS, weights=(3, 1), half_maps=True, signal_to_noise=4)
    for before, after in zip(two.classes, again.classes, strict=True):
        np.testing.assert_array_equal(before.map, after.map)
        np.testing.assert_array_equal(before.half_maps[1], after.half_maps[1])


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        ({"occupancies": ()}, "at least one class"),
        ({"occupancies": COLUMNS, "weights": (1,)}, "weights must be 2"),
        ({"occupancies": COLUMNS, "weights": (1, 0)}, "positive"),
        ({"occupancies": COLUMNS, "class_noise": (1, -1)}, "class_noise"),
        ({"occupancies": ({"Q": 1},)}, "class 1 names chain 'Q'"),
        ({"occupancies": COLUMNS, "rim_b_factor": -1}, "rim_b_factor .* -1"),
    ],
)
def test_mistakes_are_quoted(three_chains, arguments, quoted):
    with pytest.raises(ValueError, match=quoted):
        simulate_classes(three_chains, **arguments)


def test_the_rim_is_blurred_most(demo_model):
    made = simulate(demo_model, rim_b_factor=100, signal_to_noise=np.inf)
    atoms = [site.atom for site in made.structure[0].all()]
    points = np.array([atom.pos.tolist() for atom in atoms])
    r = np.linalg.norm(points - points.mean(axis=0), axis=1)
    extra = np.array([atom.b_iso for atom in atoms]) - 4 * 6.0**2
    np.testing.assert_allclose(extra, 100 * (r / r.max()) ** 2, atol=1e-3)


# --- drawn compositions ---------------------------------------------------------------------------------


def centres(structure):
    return {chain.name: np.mean([a.pos.tolist() for r in chain for a in r], axis=0) for chain in structure[0]}


def test_blocks_hold_every_chain_once_and_the_core_is_in_the_middle(demo_model):
    blocks = neighbour_blocks(demo_model, 3, core=0.4, seed=2)
    assert set(blocks) == set("ABCDEFGUV")
    assert set(blocks.values()) == {"core", "B1", "B2", "B3"}
    where = centres(demo_model)
    atoms = {chain.name: chain.count_atom_sites() for chain in demo_model[0]}
    middle = np.average([where[n] for n in atoms], axis=0, weights=list(atoms.values()))
    away = {name: np.linalg.norm(where[name] - middle) for name in atoms}
    core = [name for name, block in blocks.items() if block == "core"]
    assert max(away[name] for name in core) < min(away[n] for n in atoms if n not in core)
    assert sum(atoms[name] for name in core) >= 0.4 * sum(atoms.values())


def test_a_single_chain_is_core(three_chains):
    alone = three_chains.clone()
    alone[0].remove_chain("U")
    alone[0].remove_chain("V")
    assert neighbour_blocks(alone, 3) == {"G": "core"}


@pytest.mark.parametrize("full", [0.0, 0.25, 0.75, 1.0])
def test_drawn_occupancies_have_the_share_of_full_chains(demo_model, full):
    drawn = draw_occupancies(demo_model, full=full, seed=5)
    assert sum(value == 1 for value in drawn.values()) == max(1, round(full * 9))
    assert all(value == 0 or 0.05 <= value <= 1 for value in drawn.values())
    assert drawn == draw_occupancies(demo_model, full=full, seed=5)


def test_other_seeds_draw_others(demo_model):
    assert len({tuple(draw_occupancies(demo_model, seed=seed).items()) for seed in range(5)}) == 5


def test_blocks_are_drawn_as_one(demo_model):
    drawn = draw_occupancies(demo_model, full=0.3, blocks=2, seed=1)
    blocks = neighbour_blocks(demo_model, 2, core=0.3, seed=1)
    for block in set(blocks.values()):
        assert len({drawn[name] for name, b in blocks.items() if b == block}) == 1
    assert {drawn[name] for name, b in blocks.items() if b == "core"} == {1.0}


def test_a_chain_without_backbone_goes_with_its_neighbour(demo_model):
    import gemmi

    sugar = demo_model.clone()
    chain, residue, atom = gemmi.Chain("X"), gemmi.Residue(), gemmi.Atom()
    residue.name, residue.seqid = "NAG", gemmi.SeqId("1")
    atom.name, atom.element = "C1", gemmi.Element("C")
    atom.pos = sugar[0]["E"][0].find_atom("CA", "*").pos
    residue.add_atom(atom)
    chain.add_residue(residue)
    sugar[0].add_chain(chain)
    for seed in range(4):
        drawn = draw_occupancies(sugar, seed=seed)
        assert drawn["X"] == drawn["E"]
        blocks = neighbour_blocks(sugar, 3, seed=seed)
        assert blocks["X"] == blocks["E"]


def test_drawn_b_factors(demo_model):
    drawn = draw_b_factors(demo_model, highest=150, share=0.5, seed=1)
    assert set(drawn) == set("ABCDEFGUV")
    assert all(0 <= value <= 150 for value in drawn.values())
    assert 0 < sum(value > 0 for value in drawn.values()) < 9
    assert not any(draw_b_factors(demo_model, share=0).values())


@pytest.mark.parametrize("seed", range(5))
def test_drawn_classes(demo_model, seed):
    drawn = draw_classes(demo_model, 4, blocks=4, mixing=0.2, seed=seed)
    assert sum(drawn.weights) == pytest.approx(1)
    assert min(drawn.weights) >= 0.05 - 1e-9
    assert set(drawn.states[0].values()) == {1.0}
    assert len({tuple(state.values()) for state in drawn.states}) == 4
    for block in set(drawn.blocks.values()) - {"core"}:
        assert any(state[block] == 0 for state in drawn.states)
    for row, column in zip(drawn.mixing, drawn.occupancies, strict=True):
        assert sum(row) == pytest.approx(1)
        for chain, block in drawn.blocks.items():
            held = sum(share * state[block] for share, state in zip(row, drawn.states, strict=True))
            assert column[chain] == pytest.approx(held, abs=1e-4)


def test_unmixed_classes_are_the_states(demo_model):
    drawn = draw_classes(demo_model, 3, blocks=3, mixing=0.0, seed=1)
    assert {value for column in drawn.occupancies for value in column.values()} == {0.0, 1.0}


def test_a_part_can_be_partial_everywhere(demo_model):
    drawn = draw_classes(demo_model, 3, blocks=3, mixing=0.1, partial_everywhere=True, seed=1)
    last = max(set(drawn.blocks.values()) - {"core"})
    chain = next(name for name, block in drawn.blocks.items() if block == last)
    assert all(0.3 <= column[chain] <= 0.7 for column in drawn.occupancies)


@pytest.mark.parametrize(
    ("call", "quoted"),
    [
        (lambda m: neighbour_blocks(m, 0), "blocks"),
        (lambda m: neighbour_blocks(m, 2, core=1), "core"),
        (lambda m: draw_occupancies(m, full=1.5), "1.5"),
        (lambda m: draw_b_factors(m, highest=-1), "-1"),
        (lambda m: draw_b_factors(m, share=2), "2"),
        (lambda m: draw_classes(m, 0), "classes"),
        (lambda m: draw_classes(m, 3, mixing=-0.1), "-0.1"),
        (lambda m: draw_classes(m, 5, blocks=2), "only 4 states"),
    ],
)
def test_mistakes_in_drawing_are_quoted(demo_model, call, quoted):
    with pytest.raises(ValueError, match=quoted):
        call(demo_model)
