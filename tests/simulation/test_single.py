"""Simulated maps: linear in occupancy, conserving, in place, with noise as asked for."""

from importlib import resources

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from occupy.simulation import chain_values, demo_occupancies, demo_structure, simulate
from occupy.simulation.models import PADDING, voxels_near
from occupy.simulation.potential import ATOM_VOLUME, HEAVY_SHARE, ICE, VOLT

SMALL = ("G", "U", "V")


@pytest.fixture(scope="module")
def model():
    return demo_structure()


@pytest.fixture(scope="module")
def small(model):
    """Three small chains, for what does not depend on the size."""
    part = model.clone()
    for name in [chain.name for chain in part[0] if chain.name not in SMALL]:
        part[0].remove_chain(name)
    return part


@pytest.fixture(scope="module")
def full(model):
    return simulate(model)


@pytest.fixture(scope="module")
def partial(model):
    return simulate(model, occupancies=demo_occupancies(model))


def positions(structure):
    return np.array([site.atom.pos.tolist() for site in structure[0].all()])


def voxel_positions(simulation):
    n = simulation.map.shape[0]
    return np.indices((n, n, n)).reshape(3, -1).T[:, ::-1] * simulation.voxel_size


def distance_to_atoms(simulation):
    tree = cKDTree(positions(simulation.structure))
    return tree.query(voxel_positions(simulation))[0].reshape(simulation.map.shape)


def power_by_frequency(data, voxel_size):
    n = data.shape[0]
    along = np.fft.fftfreq(n, voxel_size)
    q = np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + along**2)
    return q, np.abs(np.fft.fftn(data.astype(float))) ** 2


# --- the signal -----------------------------------------------------------------------------------------


def test_half_occupancy_of_all_chains_halves_the_clean_map(model, full):
    half = simulate(model, occupancies=dict.fromkeys(full.occupancies, 0.5), signal_to_noise=np.inf)
    np.testing.assert_allclose(half.clean, full.clean / 2, atol=1e-4 * full.clean.max())


def test_chains_add_up(small):
    names = [chain.name for chain in small[0]]
    parts = [
        simulate(small, occupancies={name: float(name == one) for name in names}, signal_to_noise=np.inf)
        for one in names
    ]
    whole = simulate(small, signal_to_noise=np.inf).clean
    np.testing.assert_allclose(sum(part.clean for part in parts), whole, atol=1e-4 * whole.max())


@pytest.mark.parametrize(("voxel_size", "resolution"), [(3.0, 6.0), (2.0, 7.0), (3.0, 20.0)])
def test_the_sum_is_that_of_the_scattering_factors(small, voxel_size, resolution):
    occupancies = {"G": 0.5, "U": 0.25}
    made = simulate(small, voxel_size=voxel_size, resolution=resolution, occupancies=occupancies)
    expected = VOLT * sum(
        occupancies.get(site.chain.name, 1.0)
        * (site.atom.element.c4322.calculate_sf(0.0) - ICE * HEAVY_SHARE * ATOM_VOLUME)
        for site in small[0].all()
    )
    assert made.clean.sum(dtype=float) * voxel_size**3 == pytest.approx(expected, rel=5e-3)


def test_the_map_does_not_depend_on_how_finely_it_is_sampled(small):
    coarse = simulate(small, voxel_size=3.0, box=32, resolution=6.0, signal_to_noise=np.inf)
    fine = simulate(small, voxel_size=1.5, box=64, resolution=6.0, signal_to_noise=np.inf)
    np.testing.assert_allclose(coarse.clean, fine.clean[::2, ::2, ::2], atol=2e-3 * fine.clean.max())


def test_protein_stands_out_from_ice_as_it_should(full):
    # Heavy atoms at 6.5 V less ice at 3.7 V; the voxels nearest to atoms are the denser ones. Water reads 0.
    inside = np.median(full.clean[distance_to_atoms(full) < 1.5])
    assert 2.0 < inside < 3.5
    assert abs(np.median(full.clean[distance_to_atoms(full) > 12])) < 1e-3 * inside


def test_density_is_at_the_atoms(full):
    distance = distance_to_atoms(full)
    assert np.median(full.clean[distance < 2]) > 100 * full.clean[distance > 8].std()
    assert min(chain_values(full.clean, full.voxel_size, full.structure).values()) > 2


def test_centre_of_mass_is_the_atoms(small):
    # Only one chain is there, and it lies off the box's middle, differently along each axis.
    made = simulate(small, signal_to_noise=np.inf, resolution=10.0, occupancies={"U": 0, "V": 0})
    atoms = np.array([atom.pos.tolist() for residue in made.structure[0]["G"] for atom in residue])
    middle = made.map.shape[0] * made.voxel_size / 2
    assert np.unique(np.rint((atoms.mean(axis=0) - middle) / 5)).size == 3
    centre = (voxel_positions(made) * made.clean.reshape(-1, 1)).sum(axis=0) / made.clean.sum()
    np.testing.assert_allclose(centre, atoms.mean(axis=0), atol=0.5)


def test_the_model_keeps_its_shape_and_is_centred(model, full):
    before, after = positions(model), positions(full.structure)
    np.testing.assert_allclose(after - after[0], before - before[0], atol=1e-6)
    side = full.map.shape[0] * full.voxel_size
    np.testing.assert_allclose((after.min(axis=0) + after.max(axis=0)) / 2, side / 2)


def test_no_signal_beyond_the_resolution(model):
    made = simulate(model, resolution=9.0, signal_to_noise=np.inf)
    q, power = power_by_frequency(made.clean, made.voxel_size)
    assert power[q > 1 / 9].max() < 1e-9 * power.max()
    assert power[(q > 0.6 / 9) & (q < 0.85 / 9)].mean() > 1e-5 * power.max()


def test_values_at_chains_follow_their_occupancies(full, partial):
    reference = chain_values(full.clean, full.voxel_size, full.structure)
    seen = chain_values(partial.map, partial.voxel_size, partial.structure)
    for name, occupancy in partial.occupancies.items():
        assert seen[name] / reference[name] == pytest.approx(occupancy, abs=0.03)


def test_an_absent_chain_leaves_only_noise(model, full):
    made = simulate(model, occupancies={"B": 0})
    sigma = (made.map - made.clean).std()
    tree = cKDTree(positions(_without(made.structure, "B")))
    backbone = np.array([r.find_atom("CA", "*").pos.tolist() for r in made.structure[0]["B"]])
    exposed = backbone[tree.query(backbone)[0] > 10]  # away from its neighbours
    at = tuple(np.rint(exposed[:, ::-1] / made.voxel_size).astype(int).T)
    assert len(exposed) > 50
    assert abs(made.map[at].mean()) < 0.3 * sigma
    assert made.map[at].std() == pytest.approx(sigma, rel=0.25)
    assert full.map[at].mean() > 5 * sigma


def _without(structure, name):
    rest = structure.clone()
    rest[0].remove_chain(name)
    return rest


def test_extra_b_factor_is_a_gaussian_fall_of_amplitudes(small):
    before = simulate(small, signal_to_noise=np.inf)
    after = simulate(small, b_factors=dict.fromkeys(SMALL, 150), signal_to_noise=np.inf)
    q, _ = power_by_frequency(before.clean, before.voxel_size)
    blurred = np.fft.ifftn(np.fft.fftn(before.clean) * np.exp(-150 * q**2 / 4)).real
    np.testing.assert_allclose(after.clean, blurred, atol=2e-3 * before.clean.max())


def test_extra_b_factor_blurs_only_its_chain(model, full):
    made = simulate(model, b_factors={"A": 150}, signal_to_noise=np.inf)
    before = chain_values(full.clean, full.voxel_size, full.structure)
    after = chain_values(made.clean, made.voxel_size, made.structure)
    assert after["A"] < 0.95 * before["A"]
    assert after["D"] == pytest.approx(before["D"], rel=0.01)


# --- the noise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal_to_noise", [1.0, 30.0])
def test_signal_to_noise_is_as_defined(model, full, signal_to_noise):
    made = simulate(model, signal_to_noise=signal_to_noise, occupancies={"A": 0.5})
    inside = distance_to_atoms(full) <= 3.0
    noise = made.map - made.clean
    assert full.clean[inside].var() / noise.var() == pytest.approx(signal_to_noise, rel=0.01)
    assert noise.mean() == pytest.approx(0, abs=1e-5)


def test_occupancies_do_not_change_the_noise(full, partial):
    np.testing.assert_allclose(full.map - full.clean, partial.map - partial.clean, atol=1e-5)


def test_same_arguments_same_map_and_other_seed_other_noise(small):
    first, again, other = (simulate(small, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.map, again.map)
    np.testing.assert_array_equal(first.clean, other.clean)
    correlation = np.corrcoef((first.map - first.clean).ravel(), (other.map - other.clean).ravel())[0, 1]
    assert abs(correlation) < 0.05


def test_noise_fills_the_box_evenly(full):
    noise = full.map - full.clean
    n = noise.shape[0]
    r = np.linalg.norm(np.indices(noise.shape) - n // 2, axis=0)
    assert noise[r > 0.7 * n].std() == pytest.approx(noise[r < 0.3 * n].std(), rel=0.05)
    assert not np.any(full.map[distance_to_atoms(full) > 12] == 0)


@pytest.mark.parametrize("colour", [0.0, 200.0])
def test_noise_power_falls_with_its_b_factor(small, colour):
    made = simulate(small, box=48, signal_to_noise=0.01, noise_colour=colour)
    q, power = power_by_frequency(made.map - made.clean, made.voxel_size)
    shells = [(q > low) & (q < low + 0.01) for low in np.arange(0.03, 0.15, 0.01)]
    q2 = [(q[shell] ** 2).mean() for shell in shells]
    slope = np.polyfit(q2, [np.log(power[shell].mean()) for shell in shells], 1)[0]
    assert slope == pytest.approx(-colour / 2, abs=8)


def test_infinite_signal_to_noise_means_none(small):
    made = simulate(small, signal_to_noise=np.inf)
    np.testing.assert_array_equal(made.map, made.clean)


# --- the result -----------------------------------------------------------------------------------------


def test_default_box_is_even_cubic_and_leaves_solvent(full):
    assert len(set(full.map.shape)) == 1
    side = full.map.shape[0]
    assert side % 2 == 0
    assert np.ptp(positions(full.structure), axis=0).max() <= (1 - PADDING) * side * full.voxel_size


def test_result_is_read_only_and_complete(partial):
    for array in (partial.map, partial.clean):
        assert array.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 1
    with pytest.raises(TypeError):
        partial.occupancies["A"] = 0.2
    assert {chain.name for chain in partial.structure[0]} == set(partial.occupancies)
    for site in partial.structure[0].all():
        assert site.atom.occ == pytest.approx(partial.occupancies[site.chain.name])


def test_the_given_structure_is_not_changed(small):
    before = small.make_mmcif_document().as_string()
    simulate(small, occupancies={"G": 0.5}, b_factors={"U": 50})
    assert small.make_mmcif_document().as_string() == before


def test_hydrogens_and_further_models_count_for_nothing(small):
    more = small.clone()
    proton = gemmi.Atom()
    proton.name, proton.element, proton.pos = "H99", gemmi.Element("H"), gemmi.Position(500, 0, 0)
    more[0]["G"][0].add_atom(proton)
    more.add_model(small[0])
    np.testing.assert_array_equal(simulate(more).map, simulate(small).map)


# --- the demo's model -----------------------------------------------------------------------------------


def test_demo_model_is_the_entry_it_says(model):
    assert model.name == "7PBL"
    assert len(model) == 1
    assert [chain.name for chain in model[0]] == list("ABCDEFGUV")
    assert {site.atom.element.name for site in model[0].all()} == {"C", "N", "O", "S", "P"}
    packed = resources.files("occupy").joinpath("data/demo_model.cif.gz").read_bytes()
    assert len(packed) < 250_000


def test_demo_occupancies_fade_towards_one_end(model):
    occupancies = demo_occupancies(model)
    assert list(occupancies.values()).count(1.0) >= len(occupancies) / 2
    assert sorted(set(occupancies.values())) == [0.15, 0.3, 0.5, 0.75, 1.0]
    outermost = min(occupancies, key=occupancies.get)
    markers = {
        chain.name: np.mean([a.pos.tolist() for r in chain for a in r if a.name in ("CA", "P")], axis=0)
        for chain in model[0]
    }
    distance = {name: np.linalg.norm(markers[name] - markers[outermost]) for name in markers}
    by_distance = [occupancies[name] for name in sorted(distance, key=distance.get)]
    assert by_distance == sorted(by_distance)


def test_demo_occupancies_of_a_single_chain_are_full(model):
    lone = model.clone()
    for name in "BCDEFGUV":
        lone[0].remove_chain(name)
    assert demo_occupancies(lone) == {"A": 1.0}


# --- chain_values ---------------------------------------------------------------------------------------


def test_chain_values_of_a_gradient_are_the_chains_middles(partial):
    n = partial.map.shape[0]
    for axis in range(3):  # z, y, x
        field = np.indices((n, n, n))[axis] * partial.voxel_size
        found = chain_values(field, partial.voxel_size, partial.structure)
        for chain in partial.structure[0]:
            markers = [a.pos.tolist()[2 - axis] for r in chain for a in r if a.name in ("CA", "P")]
            assert found[chain.name] == pytest.approx(np.median(markers), abs=partial.voxel_size)


def test_chain_values_equal_a_plain_search(partial):
    found = chain_values(partial.map, partial.voxel_size, partial.structure, radius=4.5)
    voxels = voxel_positions(partial)
    for chain in partial.structure[0]:
        markers = [a.pos.tolist() for r in chain for a in r if a.name in ("CA", "P")]
        near = cKDTree(markers).query(voxels)[0] <= 4.5
        assert found[chain.name] == pytest.approx(np.median(partial.map.ravel()[near]))


def test_chain_values_on_a_map_coarser_than_the_radius(small):
    made = simulate(small, voxel_size=9.0, resolution=20.0)
    assert set(chain_values(np.ones(made.map.shape), 9.0, made.structure, radius=0.5).values()) == {1.0}


def test_calcium_is_not_a_backbone_atom(small):
    ion = small.clone()
    chain = gemmi.Chain("Z")
    residue, atom = gemmi.Residue(), gemmi.Atom()
    residue.name, residue.seqid = "CA", gemmi.SeqId("1")
    atom.name, atom.element = "CA", gemmi.Element("Ca")
    residue.add_atom(atom)
    chain.add_residue(residue)
    ion[0].add_chain(chain)
    assert "Z" not in demo_occupancies(ion)


@settings(deadline=None, max_examples=40)
@given(
    points=st.lists(st.tuples(*[st.floats(-2, 11)] * 3), min_size=1, max_size=5),
    radius=st.floats(0.01, 4),
)
def test_near_is_a_plain_search(points, radius):
    shape = (7, 8, 9)
    voxels = np.indices(shape).reshape(3, -1).T
    points_zyx = np.array(points)
    squared = ((voxels[:, None] - points_zyx) ** 2).sum(axis=2)
    nearest = (voxels[:, None] == np.rint(points_zyx)).all(axis=2)
    clear = np.abs(squared - radius**2).min() > 1e-9  # equal up to rounding may fall on either side
    if clear:
        expected = np.flatnonzero(((squared <= radius**2) | nearest).any(axis=1))
        np.testing.assert_array_equal(voxels_near(points_zyx, radius, shape), expected)


# --- mistakes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        ({"voxel_size": 0}, "voxel_size .* 0"),
        ({"voxel_size": float("nan")}, "nan"),
        ({"resolution": -6.0}, "-6.0"),
        ({"resolution": 5.0}, "5.0 Å is beyond two voxels of 3.0"),
        ({"signal_to_noise": 0}, "signal_to_noise .* 0"),
        ({"signal_to_noise": float("nan")}, "nan"),
        ({"noise_colour": -1}, "-1"),
        ({"box": 63}, "63"),
        ({"box": 0}, "box .* 0"),
        ({"box": 10}, "box 10 .* smaller than the model"),
        ({"occupancies": {"Q": 0.5}}, "'Q'; the structure has G, U, V"),
        ({"occupancies": {"G": 1.2}}, "'G' .* 1.2"),
        ({"occupancies": {"G": -0.1}}, "-0.1"),
        ({"b_factors": {"Q": 10}}, "b_factors .* 'Q'"),
        ({"b_factors": {"U": -10}}, "-10"),
    ],
)
def test_mistakes_are_quoted(small, arguments, quoted):
    with pytest.raises(ValueError, match=quoted):
        simulate(small, **arguments)


def test_wrong_types_are_type_errors(small):
    with pytest.raises(TypeError, match="str"):
        simulate("7pbl.cif")
    with pytest.raises(TypeError):
        simulate(small, box=64.5)


def test_empty_structures_are_refused():
    with pytest.raises(ValueError, match="no atoms"):
        simulate(gemmi.Structure())


@pytest.mark.parametrize(
    ("shape", "arguments", "quoted"),
    [
        ((4, 4), {}, r"\(4, 4\)"),
        ((8, 8, 8), {"radius": 0}, "radius .* 0"),
        ((8, 8, 8), {"voxel_size": -1}, "-1"),
        ((2, 2, 2), {}, r"'G' lies outside the map of shape \(2, 2, 2\)"),
    ],
)
def test_chain_values_quotes_mistakes(small, shape, arguments, quoted):
    with pytest.raises(ValueError, match=quoted):
        chain_values(np.zeros(shape), **{"voxel_size": 3.0, "structure": small, **arguments})


def test_atoms_named_by_element_are_all_kept_and_of_alternatives_one():
    from occupy.simulation.models import heavy_atoms

    def structure(alternatives: bool) -> gemmi.Structure:
        made, residue = gemmi.Structure(), gemmi.Residue()
        residue.name, residue.seqid = "UNK", gemmi.SeqId("1")
        for i in range(4):
            atom = gemmi.Atom()
            atom.name, atom.element, atom.pos = "C", gemmi.Element("C"), gemmi.Position(1.5 * i, 0, 0)
            if alternatives:
                atom.altloc = "ABCD"[i]
            residue.add_atom(atom)
        chain = gemmi.Chain("A")
        chain.add_residue(residue)
        model = gemmi.Model(1)
        model.add_chain(chain)
        made.add_model(model)
        return made

    assert heavy_atoms(structure(False))[0].count_atom_sites() == 4
    assert heavy_atoms(structure(True))[0].count_atom_sites() == 1
