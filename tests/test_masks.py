"""Masks from a scale: formulas, limits, thresholds, connection, edges in Å."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import occupy
from occupy.errors import InputError
from occupy.masks import _to_unit_range, smooth, soften, solvent_definition, subtraction_mask, usual_content
from occupy.simulation import demo_occupancies, demo_structure, simulate
from occupy.simulation.models import voxels_near

scales = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
    elements=st.floats(0, 1, width=32),
)
powers = st.floats(1, 50)
ONE = (1.0, 1.0, 1.0)


def within_unit_range(mask):
    return mask.dtype == np.float32 and bool(np.all((mask >= 0) & (mask <= 1)))


# --- subtraction --------------------------------------------------------------------------------------


@given(scales, powers)
def test_attenuation_keeps_a_power_of_the_scale(scale, power):
    mask = subtraction_mask(scale, attenuate=power)
    assert within_unit_range(mask)
    expected = scale.astype(np.float64) ** np.float64(np.float32(power - 1))
    np.testing.assert_allclose(mask, expected, rtol=1e-4, atol=1e-30)
    assert np.all(mask[scale == 1] == 1)


@given(scales, powers, st.floats(0.01, 0.99))
def test_a_sigmoid_keeps_all_above_the_pivot(scale, power, pivot):
    mask = subtraction_mask(scale, sigmoid=power, pivot=pivot)
    assert within_unit_range(mask)
    assert np.all(mask[scale >= np.float32(pivot)] == 1)


def published_sigmoid(x, power, pivot):
    """f(x) of METHOD, section 4, letter by letter."""
    mu = 1 / (1 + (1 / pivot - 1) ** (-1 / power) * (1 - pivot) / pivot)
    return 1 / (1 + (mu * (1 - x) / (x * (1 - mu))) ** power)


@pytest.mark.parametrize("power", [1.0, 2.0, 5.0, 9.5])
@pytest.mark.parametrize("pivot", [0.1, 0.5, 0.8])
def test_a_sigmoid_below_the_pivot_follows_the_method(power, pivot):
    scale = np.linspace(0.001, 1, 500, dtype=np.float32).reshape(5, 10, 10)
    mask = subtraction_mask(scale, sigmoid=power, pivot=pivot)
    x = scale.astype(np.float64)
    with np.errstate(divide="ignore"):
        expected = np.where(x < pivot, np.minimum(1, published_sigmoid(x, power, pivot) / x), 1)
    np.testing.assert_allclose(mask, expected, rtol=1e-5, atol=1e-12)
    if power > 1:
        assert mask.min() < 0.5 < mask.max()


def test_no_modification_subtracts_nothing():
    scale = np.linspace(0.01, 1, 27, dtype=np.float32).reshape(3, 3, 3)
    assert np.all(subtraction_mask(scale, attenuate=1) == 1)
    np.testing.assert_allclose(subtraction_mask(scale, sigmoid=1, pivot=0.5), 1, rtol=1e-6)


def test_values_a_rounding_beyond_the_range_do_no_harm():
    scale = np.array([[[-1e-7, 0, 1 + 1e-6]]], np.float32)
    for options in ({"attenuate": 2.5}, {"sigmoid": 3.0}):
        assert subtraction_mask(scale, **options).tolist() == [[[0, 0, 1]]]
    assert _to_unit_range(np.array([1.00001, -1e-9, 0.5])).tolist() == [1, 0, 0.5]


@pytest.mark.parametrize("options", [{}, {"attenuate": 2.0, "sigmoid": 2.0}])
def test_exactly_one_of_attenuation_and_sigmoid(options):
    with pytest.raises(InputError, match="either an attenuation or a sigmoid power, and not both"):
        subtraction_mask(np.ones((3, 3, 3), np.float32), **options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"attenuate": 0.9}, "attenuate must be at least 1, not 0.9"),
        ({"attenuate": float("nan")}, "not nan"),
        ({"sigmoid": 0.0}, "sigmoid must be at least 1, not 0.0"),
        ({"sigmoid": 2.0, "pivot": 0.0}, "pivot must lie between 0 and 1, not 0.0"),
        ({"sigmoid": 2.0, "pivot": 1.0}, "pivot must lie between 0 and 1, not 1.0"),
    ],
)
def test_powers_and_pivots_that_make_no_sense(options, reason):
    with pytest.raises(InputError, match=reason):
        subtraction_mask(np.ones((3, 3, 3), np.float32), **options)


# --- solvent definition -------------------------------------------------------------------------------


@given(scales, st.sampled_from([0, 0.125, 0.25, 0.5, 0.75, 0.9921875]))
def test_content_is_what_exceeds_the_threshold(scale, threshold):
    if not (scale > threshold).any():
        with pytest.raises(InputError, match="empty; lower --threshold"):
            solvent_definition(scale, threshold, ONE)
        return
    mask = solvent_definition(scale, threshold, ONE)
    assert mask.dtype == np.float32
    assert np.array_equal(mask, scale > threshold)  # equal is not above


def particle():
    """Strong core, weak domain that touches it, weak speck that does not, strong speck."""
    scale = np.zeros((20, 20, 20), np.float32)
    scale[5:10, 5:10, 5:10] = 0.9
    scale[10:13, 6:9, 6:9] = 0.3
    scale[16:18, 15:17, 2:5] = 0.3
    scale[2, 17, 17] = 0.8
    return scale


def test_weak_parts_stay_where_they_touch_content():
    scale = particle()
    plain = solvent_definition(scale, 0.5, ONE)
    kept = solvent_definition(scale, 0.5, ONE, weak=0.2)
    assert plain.sum() == 5**3 + 1
    assert np.all(kept[10:13, 6:9, 6:9] == 1)
    assert np.all(kept[16:18, 15:17, 2:5] == 0)
    assert kept.sum() == 5**3 + 27 + 1
    assert np.array_equal(solvent_definition(scale, 0.5, ONE, weak=0.35), plain)


def test_small_pieces_are_dropped_by_volume():
    scale, voxel = particle(), (1.0, 2.0, 3.0)  # 6 Å³ per voxel
    assert solvent_definition(scale, 0.5, voxel, smallest=6).sum() == 5**3 + 1
    assert solvent_definition(scale, 0.5, voxel, smallest=6.1).sum() == 5**3
    assert solvent_definition(scale, 0.5, voxel, smallest=750).sum() == 5**3
    with pytest.raises(InputError, match="empty"):
        solvent_definition(scale, 0.5, voxel, smallest=751)
    # A weak part counts for the piece that it belongs to.
    assert solvent_definition(scale, 0.5, voxel, weak=0.2, smallest=6 * 152).sum() == 5**3 + 27


def point():
    scale = np.zeros((21, 21, 21), np.float32)
    scale[10, 10, 10] = 1
    return scale


def distance_from_point(voxel):
    z, y, x = ((np.arange(21) - 10) * a for a in voxel)
    return np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)


@pytest.mark.parametrize("voxel", [ONE, (1.0, 2.0, 4.0), (1.3, 0.7, 1.1)])
@pytest.mark.parametrize("extend", [0.5, 3.9, 6.5])
def test_growing_is_in_angstrom_along_every_axis(voxel, extend):
    mask = solvent_definition(point(), 0.5, voxel, extend=extend)
    assert np.array_equal(mask, distance_from_point(voxel) <= extend + 1e-6)


@pytest.mark.parametrize("voxel", [ONE, (1.0, 2.0, 4.0)])
@pytest.mark.parametrize("extend", [0.0, 2.5])
def test_a_soft_edge_is_a_raised_cosine_of_its_width(voxel, extend):
    width = 5.0
    mask = solvent_definition(point(), 0.5, voxel, extend=extend, soft_edge=width)
    distance = distance_from_point(voxel)
    fall = np.clip((distance - extend) / width, 0, 1)
    np.testing.assert_allclose(mask, (1 + np.cos(np.pi * fall)) / 2, atol=1e-6)
    assert np.all(mask[distance <= extend] == 1)
    assert np.all(mask[distance > extend + width] == 0)
    assert within_unit_range(mask)


@given(scales, st.floats(0, 6), st.floats(0, 6))
def test_masks_hold_their_content_and_stay_in_range(scale, extend, soft_edge):
    content = scale > 0.5
    if content.any():
        mask = soften(content, (1.0, 1.5, 0.8), extend=extend, soft_edge=soft_edge)
        assert within_unit_range(mask)
        assert np.all(mask[content] == 1)


def test_without_content_or_with_nothing_to_soften():
    content = particle() > 0.5
    assert np.array_equal(soften(content, ONE), content)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"threshold": 1.0}, "from 0 to below 1, not 1.0"),
        ({"threshold": -0.1}, "from 0 to below 1, not -0.1"),
        ({"threshold": float("nan")}, "not nan"),
        ({"weak": 0.6}, "between 0 and the threshold 0.5, not 0.6"),
        ({"weak": -0.1}, "not -0.1"),
        ({"smallest": -1.0}, "smallest must not be negative, not -1.0"),
        ({"extend": -1.0}, "extend must not be negative"),
        ({"soft_edge": float("inf")}, "soft edge must not be negative, not inf"),
    ],
)
def test_values_that_make_no_sense(options, reason):
    given_options = {"threshold": 0.5} | options
    with pytest.raises(InputError, match=reason):
        solvent_definition(particle(), voxel_size=ONE, **given_options)


def test_a_scale_has_three_dimensions():
    with pytest.raises(InputError, match="three dimensions, not 2"):
        solvent_definition(np.ones((4, 4), np.float32), 0.5, ONE)


# --- smoothing ----------------------------------------------------------------------------------------


def test_smoothing_reaches_as_far_as_it_says_along_every_axis():
    voxel, width = (1.0, 2.0, 4.0), 6.0
    out = smooth(point(), voxel, width)
    for axis, a in enumerate(voxel):
        line = np.moveaxis(out, axis, 0)[:, 10, 10]
        offset = np.abs(np.arange(21) - 10) * a
        assert np.all(line[offset < width] > 0)
        assert np.all(line[offset > width] == 0)
        expected = np.where(offset <= width, 1 + np.cos(np.pi * offset / width), 0)
        np.testing.assert_allclose(line / line.max(), expected / 2, atol=1e-6)
    assert out.sum() == pytest.approx(1, rel=1e-5)


@given(scales, st.floats(0, 8))
def test_smoothing_stays_in_range_and_leaves_the_constant(scale, width):
    out = smooth(scale, (1.0, 1.5, 0.8), width)
    assert within_unit_range(out)
    assert scale.min() - 1e-6 <= out.min()
    assert out.max() <= scale.max() + 1e-6
    ones = np.ones_like(scale)
    np.testing.assert_allclose(smooth(ones, (1.0, 1.5, 0.8), width), ones, rtol=1e-6)


# --- the usual mask -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "imaging",
    [{}, {"resolution": 8.0}, {"resolution": 4.0, "voxel_size": 2.0}, {"signal_to_noise": 5.0}, {"seed": 1}],
    ids=["6 Å", "8 Å", "4 Å", "noisy", "other noise"],
)
def test_the_usual_mask_holds_the_atoms_of_weak_parts_and_little_else(imaging):
    structure = demo_structure()
    made = simulate(structure, occupancies=demo_occupancies(structure), **imaging)
    found = occupy.estimate(occupy.Volume.from_array(made.map, made.voxel_size, "demo")).estimate
    usual = usual_content(found.lowest_confident_scale)
    mask = solvent_definition(found.scale, voxel_size=found.volume.voxel_size, **usual) > 0.5
    atoms = {
        chain.name: np.array([[*atom.pos][::-1] for residue in chain for atom in residue]) / made.voxel_size
        for chain in made.structure[0]
    }
    present = np.concatenate([atoms[name] for name, true in made.occupancies.items() if true > 0.2])
    assert mask[tuple(np.rint(present).astype(int).T)].mean() >= 0.99
    particle = voxels_near(np.concatenate(list(atoms.values())), 3 / made.voxel_size, mask.shape).size
    assert mask.sum() <= 1.6 * particle


def test_usual_thresholds_stay_the_same_place_when_the_scale_is_recalibrated():
    lowest = 0.2
    plain, moved = usual_content(lowest), usual_content(lowest, recalibrated=True)
    for name in ("threshold", "weak"):
        assert lowest + moved[name] * (1 - lowest) == pytest.approx(plain[name])
    assert usual_content(0.001)["weak"] > 0.1
    assert usual_content(0.7) == {"threshold": 0.7, "weak": 0.7, "close": 5.0}


def test_closing_fills_gaps_and_dents_and_leaves_the_outside_as_it_is():
    scale = np.zeros((24, 24, 24), np.float32)
    scale[4:20, 4:20, 0:20] = 1
    scale[11:13, 11:13, 4:20] = 0
    closed = solvent_definition(scale, 0.5, (2.0, 2.0, 2.0), close=5) > 0
    whole = np.zeros_like(closed)
    whole[4:20, 4:20, 0:20] = True
    assert np.array_equal(closed[:, :, :17], whole[:, :, :17])
    assert not (closed & ~whole).any()
    wide = solvent_definition(scale, 0.5, (2.0, 2.0, 2.0), close=1.5) > 0
    assert np.array_equal(wide, scale > 0.5)
    with pytest.raises(InputError, match="close must not be negative"):
        solvent_definition(scale, 0.5, ONE, close=-1)
