"""Maps and masks of a set, and its record."""

from __future__ import annotations

import numpy as np
import pytest

from occupy.ensemble.components import find_components, read_set, soft_mask
from occupy.ensemble.execution import Execution
from occupy.ensemble.members import Member
from occupy.ensemble.pipeline import estimate_set
from occupy.errors import InputError
from occupy.io.mrc import read_map
from occupy.regions.region import Region
from occupy.report.set_record import NAME, read_set_record
from occupy.report.set_results import OF_SET, PRODUCTS, _write_class_maps, _write_components
from occupy.simulation import demo_structure, simulate_classes
from occupy.volume import Volume


@pytest.fixture(scope="module")
def est():
    parts = [{"A": 0.0}, {"A": 1.0}, {"A": 0.5}]
    made = simulate_classes(demo_structure(), parts, voxel_size=4.0, resolution=9.0, noise_colour=0.0)
    volumes = [Volume.from_array(c.map, c.voxel_size, f"c {k}") for k, c in enumerate(made.classes)]
    return estimate_set([Member(v.name, lambda v=v: v) for v in volumes])


def test_maps_hold_what_was_estimated(est, tmp_path):
    made = _write_class_maps(tmp_path / "new", est)
    of_classes, of_set = made.of_classes, made.of_set
    assert made.table is None
    assert set(of_classes) == set(est.names)
    assert set(of_set) == set(OF_SET)
    box = tuple(slice(c, c + n) for c, n in zip(est.scaled.corner, est.content.shape, strict=True))
    for k, name in enumerate(est.names):
        found = est.of_class(k)
        assert set(of_classes[name]) == set(PRODUCTS)
        for product, file in of_classes[name].items():
            volume = read_map(tmp_path / "new" / file)
            assert volume.same_grid(est.grid)
            np.testing.assert_array_equal(volume.data[box], getattr(found, product))
            outside = np.ones(volume.shape, dtype=bool)
            outside[box] = False
            assert not volume.data[outside].any()


def test_components_are_soft_masks_and_old_ones_go(est, tmp_path):
    components = find_components(est)
    files = _write_components(tmp_path, est, components)
    assert set(files) == {c.name for c in components}
    one = read_map(tmp_path / files["component01"])
    assert (one.data > 0.999).sum() >= components[0].mask.sum()
    assert one.data.sum() == pytest.approx(soft_mask(est, components[0].mask).sum(), rel=1e-4)
    assert _write_components(tmp_path, est, ()) == {}
    assert not list(tmp_path.rglob("component*.mrc"))


def test_regions_are_read_while_maps_are_written(est, tmp_path):
    inside = np.flatnonzero(est.scaled.whole(est.content.astype(np.float32)))
    half = [Region(name, "mask", part, est.grid.shape) for name, part in (("a", inside[::2]), ("b", inside))]
    made = _write_class_maps(tmp_path, est, regions=half)
    assert made.table is not None
    assert made.table.maps == est.names
    again = read_set(est, half)
    np.testing.assert_array_equal(made.table.values, again.values)
    np.testing.assert_array_equal(made.table.errors, again.errors)
    np.testing.assert_allclose(made.table.weights, est.weights)
    for name in est.names:
        data = read_map(tmp_path / made.of_classes[name]["occupancy"]).data.reshape(-1)
        assert made.table.reading("b", name).value == pytest.approx(float(np.median(data[inside])))


def test_maps_that_are_kept_are_left_alone_and_counted_in_the_summary(est, tmp_path):
    said = []
    execution = Execution(report=lambda stage, done, total: said.append((stage, done, total)))
    _write_class_maps(tmp_path, est, execution=execution)
    assert said == [("writing", k, 3) for k in range(4)]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "c 1_relative.mrc").write_bytes(b"kept")
    (tmp_path / "c 2_relative.mrc").unlink()
    _write_class_maps(tmp_path, est, keep=True)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.pop("c 1_relative.mrc") == b"kept"
    assert after.items() <= before.items()


@pytest.mark.parametrize(
    ("text", "part"), [("{", "damaged"), ("[]", "not the record"), ('{"what": "map"}', "not the record")]
)
def test_records_that_are_none(tmp_path, text, part):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(InputError, match=part):
        read_set_record(tmp_path)


def test_no_record(tmp_path):
    with pytest.raises(InputError, match="no record of a set"):
        read_set_record(tmp_path)
