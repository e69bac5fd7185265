"""Half-maps and processing: linear, as strong as said, alike for all maps."""

import numpy as np
import pytest

from occupy.simulation import Processing, simulate
from occupy.simulation.potential import coloured_noise, noise_power, shell_index, shell_means
from occupy.simulation.single import _ssnr_of, _wiener_weights, last_shell

EVERYTHING = Processing(sharpening=100, mask="sphere", mask_radius=45, mask_edge=12, wiener=True)


@pytest.fixture(scope="module")
def plain(three_chains):
    return simulate(three_chains, half_maps=True, signal_to_noise=5)


def radius(made):
    n = made.map.shape[0]
    return np.linalg.norm(np.indices(made.map.shape) - n / 2, axis=0) * made.voxel_size


def power_per_shell(data):
    return shell_means(np.abs(np.fft.rfftn(data.astype(float))) ** 2, data.shape[0])


# --- half-maps ------------------------------------------------------------------------------------------


def test_half_maps_do_not_change_the_map(three_chains, plain):
    np.testing.assert_array_equal(plain.map, simulate(three_chains, signal_to_noise=5).map)


@pytest.mark.parametrize("processing", [Processing(), EVERYTHING])
def test_the_mean_of_the_halves_is_the_map(three_chains, processing):
    made = simulate(three_chains, half_maps=True, signal_to_noise=2, processing=processing)
    first, second = made.half_maps
    np.testing.assert_allclose((first + second) / 2, made.map, atol=1e-5 * np.abs(made.map).max())


def test_halves_have_independent_noise_of_twice_the_variance(plain):
    whole = plain.map - plain.clean
    first, second = (half - plain.clean for half in plain.half_maps)
    for noise in (first, second):
        assert noise.var() == pytest.approx(2 * whole.var(), rel=0.1)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.06


def test_without_asking_there_are_no_halves_and_no_ssnr(three_chains):
    made = simulate(three_chains)
    assert made.half_maps is None
    assert made.ssnr is None
    assert made.estimated_resolution is None


def test_halves_are_read_only(plain):
    with pytest.raises(ValueError, match="read-only"):
        plain.half_maps[0][0, 0, 0] = 1


# --- sharpening -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharpening", [60.0, -60.0])
def test_sharpening_multiplies_amplitudes_up_to_the_soft_edge(three_chains, sharpening):
    options = {"resolution": 8.0, "signal_to_noise": 5}
    before = simulate(three_chains, **options)
    after = simulate(three_chains, **options, processing=Processing(sharpening=sharpening))
    ratio = np.sqrt(power_per_shell(after.map) / power_per_shell(before.map))
    side = before.map.shape[0] * before.voxel_size
    q = np.arange(len(ratio)) / side
    inside = q < 0.8 / 8
    np.testing.assert_allclose(ratio[inside], np.exp(sharpening / 4 * q[inside] ** 2), rtol=0.02)
    assert ratio[q > 1.02 / 8].max() < 1e-3


def test_strong_sharpening_stays_finite(three_chains):
    made = simulate(three_chains, processing=Processing(sharpening=5000))
    assert np.isfinite(made.map).all()


# --- masks ----------------------------------------------------------------------------------------------


def test_outside_of_the_sphere_all_is_zero_and_inside_nothing_changes(three_chains, plain):
    processing = Processing(mask="sphere", mask_radius=30, mask_edge=10)
    made = simulate(three_chains, half_maps=True, signal_to_noise=5, processing=processing)
    r = radius(made)
    for data in (made.map, made.clean, *made.half_maps):
        assert not data[r > 40].any()
    np.testing.assert_array_equal(made.map[r < 30], plain.map[r < 30])
    between = (r > 31) & (r < 39)
    share = made.map[between] / plain.map[between]
    assert (share > 0).all()
    assert (share < 1).all()


def test_the_default_sphere_holds_the_model(three_chains, plain):
    made = simulate(three_chains, signal_to_noise=5, processing=Processing(mask="sphere"))
    inside = np.zeros(made.map.shape, bool)
    for site in made.structure[0].all():
        z, y, x = (round(c / made.voxel_size) for c in site.atom.pos.tolist()[::-1])
        inside[z, y, x] = True
    np.testing.assert_array_equal(made.map[inside], plain.map[inside])


def test_the_soft_mask_follows_the_atoms(three_chains, plain):
    made = simulate(
        three_chains, signal_to_noise=5, processing=Processing(mask="soft", mask_radius=6, mask_edge=6)
    )
    from scipy.spatial import cKDTree

    atoms = np.array([site.atom.pos.tolist() for site in made.structure[0].all()])
    voxels = np.indices(made.map.shape).reshape(3, -1).T[:, ::-1] * made.voxel_size
    distance = cKDTree(atoms).query(voxels)[0].reshape(made.map.shape)
    np.testing.assert_array_equal(made.map[distance <= 6], plain.map[distance <= 6])
    # The edge is measured between voxels: up to one diagonal more.
    assert not made.map[distance > 12 + made.voxel_size * 3**0.5].any()


# --- Wiener shrinkage -----------------------------------------------------------------------------------


def test_shells_are_shrunk_by_ssnr_over_one_plus_ssnr(three_chains, plain):
    made = simulate(
        three_chains, half_maps=True, signal_to_noise=5, processing=Processing(wiener=True, tau2_fudge=3)
    )
    ssnr = np.array(made.ssnr)
    last = last_shell(ssnr)
    ratio = np.sqrt(power_per_shell(made.map) / power_per_shell(plain.map))
    np.testing.assert_allclose(ratio[1 : last + 1], (ssnr / (1 + ssnr))[1 : last + 1], rtol=1e-3)
    assert ratio[last + 3 :].max() < 1e-4
    side = made.map.shape[0] * made.voxel_size
    assert made.estimated_resolution == pytest.approx(side / last)


def test_ssnr_is_the_ratio_of_powers(three_chains, plain):
    made = simulate(three_chains, signal_to_noise=5, processing=Processing(wiener=True, tau2_fudge=3))
    noise = power_per_shell(plain.map - plain.clean)
    signal = power_per_shell(plain.clean)
    # The noise's power in a shell is known up to the number of its coefficients.
    shells = slice(6, len(noise) - 1)
    np.testing.assert_allclose(np.array(made.ssnr)[shells], 3 * (signal / noise)[shells], rtol=0.35)


def test_more_noise_means_lower_resolution(three_chains):
    found = [
        simulate(three_chains, signal_to_noise=snr, processing=Processing(wiener=True)).estimated_resolution
        for snr in (100, 10, 1)
    ]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_wiener_needs_noise(three_chains):
    with pytest.raises(ValueError, match="infinite"):
        simulate(three_chains, signal_to_noise=np.inf, processing=Processing(wiener=True))


def test_an_empty_map_has_no_resolution(three_chains):
    made = simulate(three_chains, occupancies=dict.fromkeys("GUV", 0.0), processing=Processing(wiener=True))
    assert made.estimated_resolution is None
    assert not any(made.ssnr)


def test_last_shell_and_weights():
    ssnr = np.array([9.0, 9, 4, 2, 1, 0.9, 3, 0])
    assert last_shell(ssnr) == 4
    assert last_shell(np.ones(5)) == 4
    assert last_shell(np.zeros(5)) == 0
    weights = _wiener_weights(ssnr, 4)
    np.testing.assert_allclose(weights[:6], ssnr[:6] / (1 + ssnr[:6]))
    assert not weights[6:].any()


def test_ssnr_rises_with_tau2_fudge():
    clean = np.random.default_rng(0).standard_normal((16, 16, 16)).astype(np.float32)
    noise = np.full(9, 5.0)
    np.testing.assert_allclose(_ssnr_of(clean, noise, 4.0), 4 * _ssnr_of(clean, noise, 1.0))


# --- spectra --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", [0.0, 300.0])
@pytest.mark.parametrize("size", [24, 25])
def test_expected_noise_power_is_that_of_many_draws(colour, size):
    draws = [power_per_shell(coloured_noise((size,) * 3, 2.0, colour, seed)) for seed in range(30)]
    expected = noise_power(size, 2.0, colour)
    np.testing.assert_allclose(np.mean(draws, axis=0)[1:], expected[1:], rtol=0.3)
    np.testing.assert_allclose(np.mean(draws, axis=0)[4:-1], expected[4:-1], rtol=0.06)
    assert expected[0] == 0


@pytest.mark.parametrize("size", [8, 9])
def test_shell_means_are_those_of_the_whole_transform(size):
    data = np.random.default_rng(1).standard_normal((size,) * 3)
    whole = np.abs(np.fft.fftn(data)) ** 2
    along = np.fft.fftfreq(size) * size
    r = np.rint(np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + along**2) - 1e-9).astype(int)
    half = shell_means(np.abs(np.fft.rfftn(data)) ** 2, size)
    expected = [whole[r == k].mean() for k in range(size // 2 + 1)]
    np.testing.assert_allclose(half, expected)
    assert shell_index(size).max() <= np.ceil(np.sqrt(3) * size / 2)


# --- mistakes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        ({"mask": "box"}, "'box'"),
        ({"sharpening": float("nan")}, "nan"),
        ({"mask_radius": 0}, "mask_radius .* 0"),
        ({"mask_edge": -1.0}, "-1.0"),
        ({"tau2_fudge": float("inf")}, "inf"),
    ],
)
def test_mistakes_are_quoted(arguments, quoted):
    with pytest.raises(ValueError, match=quoted):
        Processing(**arguments)
