"""From maps to occupancies: truth recovered, and what must not change the answer."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from scipy.ndimage import map_coordinates

from occupy.ensemble.components import find_components, summary_of, summary_terms, varying
from occupy.ensemble.execution import MemoryStorage
from occupy.ensemble.members import Member, working_grid
from occupy.ensemble.pipeline import estimate_set
from occupy.errors import InputError
from occupy.report.set_record import set_numbers
from occupy.volume import Frame, Volume


def summarised(est, differing):
    """Sum a set up, all classes in memory."""
    terms = [summary_terms(est, k, est.of_class(k)) for k in range(len(est.names))]
    return summary_of(est, [sum(arrays) for arrays in zip(*terms, strict=True)], differing)


def chains(made):
    return list(made.occupancies)


@pytest.fixture(scope="module")
def known(tools, regularised):
    return estimate_set(tools["members_of"](regularised))


@pytest.fixture(scope="module")
def unknown(tools, raw):
    return estimate_set(tools["members_of"](raw, known=False))


def test_partial_chains_of_class3d_maps(tools, regularised, known):
    found, truth = tools["readings"](known, regularised)
    partial = truth < 0.99
    assert np.abs(found - truth)[partial].mean() < 0.04
    assert np.abs(found - truth)[~partial].mean() < 0.06
    assert np.corrcoef(found[partial], truth[partial])[0, 1] > 0.99
    assert found[truth == 0].max() < 0.08


def test_partial_chains_of_maps_nobody_says_anything_of(tools, raw, unknown):
    found, truth = tools["readings"](unknown, raw)
    partial = truth < 0.99
    assert np.abs(found - truth)[partial].mean() < 0.04
    assert np.abs(found - truth)[~partial].mean() < 0.06
    assert found[truth == 0].max() < 0.08


@pytest.mark.parametrize("class3d", [True, False])
def test_two_classes(tools, class3d):
    weights = (0.6, 0.4) if class3d else None
    made = tools["simulated"]([{"G": 1.0, "A": 0.0}, {"G": 0.2, "A": 1.0}], weights=weights, class3d=class3d)
    found, truth = tools["readings"](estimate_set(tools["members_of"](made, known=class3d)), made)
    assert np.abs(found - truth)[truth < 0.99].max() < 0.12
    assert np.abs(found - truth).mean() < 0.04


def test_a_part_that_one_class_has_and_no_other(tools):
    made = tools["simulated"]([{"G": 0.0}, {"G": 0.0}, {"G": 1.0}, {"G": 0.0}])
    found, _ = tools["readings"](estimate_set(tools["members_of"](made)), made)
    row = found[chains(made).index("G")]
    assert row[2] > 0.8
    assert row[[0, 1, 3]].max() < 0.12


def test_a_part_that_is_partial_in_every_class_does_not_read_full(tools):
    made = tools["simulated"](
        [{"G": 0.4, "A": 1.0}, {"G": 0.5, "A": 0.0}, {"G": 0.45, "A": 0.5}], weights=None
    )
    est = estimate_set(tools["members_of"](made))
    found, truth = tools["readings"](est, made)
    row = chains(made).index("G")
    np.testing.assert_allclose(found[row], truth[row], atol=0.12)
    inside = made.classes[0].structure[0]["G"]
    points = np.array([a.pos.tolist() for r in inside for a in r if a.name in ("CA", "P")])[:, ::-1]
    relative = est.on_grid(est.of_class(0).relative).data
    at = map_coordinates(relative, points.T / made.classes[0].voxel_size, order=1)
    assert np.median(at) > 0.75


def test_grey_scale_and_fall_off_of_every_class_are_undone(tools, raw, unknown):
    factors, b_factors = (1.0, 0.5, 1.7, 1.2), (0.0, 60.0, -40.0, 30.0)
    members = []
    for k, one in enumerate(raw.classes):
        n = one.map.shape[0]
        f = np.fft.fftfreq(n, one.voxel_size)
        q2 = f[:, None, None] ** 2 + f[:, None] ** 2 + np.fft.rfftfreq(n, one.voxel_size) ** 2
        filtered = scipy.fft.rfftn(np.asarray(one.map)) * factors[k] * np.exp(-b_factors[k] * q2 / 4)
        members.append(tools["member_of"](f"c{k}", scipy.fft.irfftn(filtered, s=(n,) * 3), one.voxel_size))
    found, truth = tools["readings"](estimate_set(members), raw)
    before, _ = tools["readings"](unknown, raw)
    assert np.abs(found - before).max() < 0.1
    assert np.abs(found - truth)[truth < 0.99].mean() < 0.05


def test_unequal_shrinkage_is_undone(tools):
    parts = [{"G": 1.0, "A": 0.5}, {"G": 1.0, "A": 1.0}, {"G": 1.0, "A": 0.0}]
    made = tools["simulated"](parts, weights=(0.75, 0.15, 0.1), snr=6.0)
    lowest = [float(np.quantile(one.map, 0.999)) for one in made.classes]
    assert lowest[2] < 0.93 * lowest[0]
    found, truth = tools["readings"](estimate_set(tools["members_of"](made)), made)
    assert np.abs(found[1:] - truth[1:]).mean() < 0.08
    np.testing.assert_allclose(found[0], truth[0], atol=0.12)


@pytest.mark.parametrize("factor", [1e4, 2.0**66, 2.0**-90])
def test_one_factor_on_all_maps_changes_nothing(tools, raw, unknown, factor):
    members = [
        tools["member_of"](f"c{k}", np.float32(factor) * c.map, c.voxel_size)
        for k, c in enumerate(raw.classes)
    ]
    scaled = estimate_set(members)
    np.testing.assert_allclose(scaled.of_class(1).occupancy, unknown.of_class(1).occupancy, atol=1e-3)
    numbers, before = set_numbers(scaled), set_numbers(unknown)
    assert numbers["full_value"] == pytest.approx(before["full_value"] * factor, rel=1e-3)
    everywhere = np.ones(unknown.content.shape, dtype=bool)
    composite, plain = (summarised(est, everywhere).composite for est in (scaled, unknown))
    np.testing.assert_allclose(composite / np.float32(factor), plain, atol=1e-3 * plain.max())


def test_another_order_of_classes_gives_the_same_answer_in_that_order(tools, regularised, known):
    order = [2, 0, 3, 1]
    members = tools["members_of"](regularised)
    other = estimate_set([members[i] for i in order])
    assert other.names == tuple(f"c{i}" for i in order)
    for place, i in enumerate(order):
        one, same = known.of_class(i), other.of_class(place)
        np.testing.assert_allclose(same.occupancy, one.occupancy, atol=2e-3)
        np.testing.assert_allclose(same.uncertainty, one.uncertainty, atol=5e-3)


def test_noise_alone_is_no_variability(tools, alike):
    est = estimate_set(tools["members_of"](alike))
    assert find_components(est) == ()
    summary = summarised(est, varying(est))
    assert varying(est).sum() < 0.01 * est.content.sum()
    assert (summary.variability > 0.02).sum() < 0.01 * est.content.sum()
    found, _ = tools["readings"](est, alike)
    assert np.ptp(found, axis=1).max() < 0.06
    assert np.abs(found - 1).mean() < 0.06


def boxed(raw, box):
    """Return members cut to a box (first voxels, sides), and the same box of an array."""
    cut = tuple(slice(a, a + n) for a, n in box)
    return [
        Volume.from_array(np.array(one.map[cut], dtype=np.float32), one.voxel_size, f"c{k}")
        for k, one in enumerate(raw.classes)
    ], cut


@pytest.mark.parametrize("box", [((1, 45), (0, 47), (2, 43)), ((0, 48), (2, 44), (1, 46))])
def test_boxes_that_are_odd_or_not_cubic(tools, raw, unknown, box):
    volumes, cut = boxed(raw, box)
    est = estimate_set([Member(v.name, lambda v=v: v) for v in volumes])
    whole = tools["occupancy_maps"](unknown)
    made = tools["occupancy_maps"](est)
    assert made[0].shape == tuple(n for _, n in box)
    for mine, theirs in zip(made, whole, strict=True):
        inside = theirs[cut] > 0.3
        assert np.abs(mine - theirs[cut])[inside].mean() < 0.03


def test_other_orders_of_axes_in_the_file(tools, raw):
    (z0, nz), (y0, ny), (x0, nx) = ((0, 48), (2, 44), (1, 46))
    volumes, _ = boxed(raw, ((z0, nz), (y0, ny), (x0, nx)))
    plain = estimate_set([Member(v.name, lambda v=v: v) for v in volumes])
    axes = (2, 3, 1)
    order = tuple(3 - axis for axis in axes[::-1])
    voxel = volumes[0].voxel_size[0]
    frame = Frame(axes=axes, cell=(nx * voxel, ny * voxel, nz * voxel), sampling=(nx, ny, nz))
    turned = [
        Volume(np.ascontiguousarray(v.data.transpose(order)), (voxel,) * 3, frame, v.name) for v in volumes
    ]
    est = estimate_set([Member(v.name, lambda v=v: v) for v in turned])
    mine, theirs = tools["occupancy_maps"](est), tools["occupancy_maps"](plain)
    for one, other in zip(mine, theirs, strict=True):
        assert one.shape == turned[0].shape
        np.testing.assert_allclose(one, other.transpose(order), atol=1e-4)


def test_fine_maps_are_worked_on_coarsely_and_written_finely():
    volume = Volume.from_array(np.zeros((100, 100, 101), dtype=np.float32), 1.0)
    shape, voxel = working_grid(volume)
    assert shape == (40, 40, 40)
    np.testing.assert_allclose(voxel, (2.5, 2.5, 2.525))


def test_values_keep_their_bounds(known):
    for k in range(4):
        one = known.of_class(k)
        for array in (one.relative, one.occupancy):
            assert array.dtype == np.float32
            assert array.min() >= 0
            assert array.max() <= 1
        assert np.all(one.occupancy <= one.relative + 1e-6)
        assert one.uncertainty.min() >= 0
        assert one.uncertainty.max() <= 0.5
    assert known.weights.sum() == pytest.approx(1)


def test_summary_is_the_mean_over_particles(known):
    summary = summarised(known, varying(known))
    mean = sum(w * known.of_class(k).occupancy for k, w in enumerate(known.weights))
    np.testing.assert_allclose(summary.mean_occupancy, mean, atol=1e-5)
    assert np.all(summary.variability[~varying(known)] == 0)
    assert summary.variability.max() > 0.2


def test_results_are_read_only(known):
    for array in (
        known.ratios[0],
        known.reading,
        known.best,
        known.keep,
        known.scatter,
        known.content,
        known.weights,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(ValueError, match="read-only"):
        known.scaled.maps[0][...] = 0
    with pytest.raises(ValueError, match="read-only"):
        known.of_class(0).occupancy[...] = 0


def test_empty_classes_are_left_out_and_named(tools, regularised):
    members = tools["members_of"](regularised)
    shape, voxel = regularised.classes[0].map.shape, regularised.classes[0].voxel_size
    members.insert(1, tools["member_of"]("hollow", np.zeros(shape), voxel, 0.0, members[0].ssnr))
    est = estimate_set(members)
    assert est.names == ("c0", "c1", "c2", "c3")
    assert [n.text for n in est.notices if n.code == "empty-class"] == [
        "left out, as nothing is in it: hollow"
    ]


def test_a_common_resolution_can_be_asked_for(tools, regularised):
    assert estimate_set(tools["members_of"](regularised), lowpass=16.0).scaled.resolution == 16
    with pytest.raises(InputError, match="finer than two voxels"):
        estimate_set(tools["members_of"](regularised), lowpass=5.0)


def test_one_bad_class_does_not_set_the_resolution(tools):
    made = tools["simulated"](weights=(0.4, 0.3, 0.29, 0.01), snr=10.0)
    est = estimate_set(tools["members_of"](made))
    assert est.scaled.resolutions[3] > 1.6 * np.median(est.scaled.resolutions)
    assert any(n.code == "poor-classes" for n in est.notices)
    assert est.scaled.resolution < est.scaled.resolutions[3]


def noise(tools, seed, shape=(32, 32, 32), voxel=3.0, name="n"):
    return tools["member_of"](name, np.random.default_rng(seed).standard_normal(shape), voxel)


def test_what_is_no_set(tools):
    one, empty = noise(tools, 1), tools["member_of"]("z", np.zeros((32,) * 3), 3.0)
    for members in ([], [one], [one, empty]):
        with pytest.raises(InputError, match="at least two"):
            estimate_set(members)
    with pytest.raises(InputError, match=r"32 × 32 × 30 voxels of 3 Å.*--resample"):
        estimate_set([one, noise(tools, 2, (30, 32, 32))])
    with pytest.raises(InputError, match="--resample"):
        estimate_set([one, noise(tools, 2, voxel=2.5)])
    bad = np.ones((32,) * 3)
    bad[3, 3, 3] = np.nan
    with pytest.raises(InputError, match="not numbers"):
        estimate_set([one, tools["member_of"]("bad", bad, 3.0)])


def test_maps_are_read_once_and_room_for_them_is_given_back(tools, regularised, raw):
    reads, made = [], []

    class Counted(MemoryStorage):
        def __init__(self, count, shape):
            assert count == 4
            super().__init__(count, shape)
            made.append(self)
            assert sum(storage._data.size > 0 for storage in made) <= 3

    def counted(member):
        return Member(
            member.name, lambda: (reads.append(member.name), member.read())[1], member.weight, member.ssnr
        )

    for source, known in ((regularised, True), (raw, False)):
        reads.clear(), made.clear()
        est = estimate_set([counted(m) for m in tools["members_of"](source, known=known)], room=Counted)
        assert reads == ["c0", "c1", "c2", "c3"]
        left = [storage for storage in made if storage._data.size]
        assert {id(storage) for storage in left} == {id(est.scaled.maps), id(est.ratios)}


def test_a_finer_resolution_than_usual_gets_a_finer_grid():
    fine = Volume.from_array(np.zeros((200, 200, 200), dtype=np.float32), 1.06)
    assert working_grid(fine)[1] == working_grid(fine, 12.0)[1]
    shape, voxel = working_grid(fine, 5.0)
    assert max(voxel) < 5.0 / 2.2
    assert shape[0] > working_grid(fine)[0][0]
    with pytest.raises(InputError, match=r"2 Å is finer than two voxels of the maps \(2.12 Å\)"):
        working_grid(fine, 2.0)
