"""A set's whole workflow from Python: what the command line has, Python has."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

import occupy
import occupy.inputs
from occupy.errors import InputError
from occupy.simulation import demo_structure, simulate_classes

PARTS = [{"G": 1.0, "A": 0.0}, {"G": 0.0, "A": 1.0}, {"G": 0.4, "A": 1.0}]


@pytest.fixture(scope="module")
def volumes() -> dict[str, occupy.Volume]:
    made = simulate_classes(
        demo_structure(), PARTS, voxel_size=4.0, resolution=9.0, signal_to_noise=20.0, seed=1
    )
    return {
        f"c{k}": occupy.Volume.from_array(one.map, one.voxel_size, f"c{k}")
        for k, one in enumerate(made.classes, start=1)
    }


@pytest.fixture(scope="module")
def result(volumes) -> occupy.ClassesResult:
    return occupy.estimate_classes(volumes)


def test_components_and_table_come_with_it(result, volumes):
    assert result.names == ("c1", "c2", "c3")
    assert len(result.components) >= 2
    assert result.table.regions == tuple(c.name for c in result.components)
    spread = result.table.values.max(axis=1) - result.table.values.min(axis=1)
    assert spread.max() > 0.5
    occupancy = result.occupancy("c2")
    assert occupancy.shape == volumes["c2"].shape
    np.testing.assert_array_equal(occupancy.data, result.occupancy(1).data)
    assert result.uncertainty("c2").data.max() <= 0.5
    with pytest.raises(KeyError, match="c9"):
        result.occupancy("c9")


def test_misaligned_classes_are_told_of_in_python_too(volumes):
    data = np.roll(volumes["c3"].data, 3, axis=2)
    moved = volumes | {"c3": volumes["c3"].with_data(data)}
    found = occupy.estimate_classes(moved, components=False)
    assert any(n.code == "misaligned" and "c3" in n.text for n in found.notices)
    assert found.table is None


def test_files_members_threads_and_disk_give_the_same(result, volumes, tmp_path: Path, monkeypatch):
    (tmp_path / "maps").mkdir()
    for name, volume in volumes.items():
        occupy.write_map(tmp_path / "maps" / f"{name}.mrc", volume)
    scratch = tmp_path / "scratch"
    monkeypatch.setattr(occupy.inputs, "LIMITS", occupy.inputs._Limits(in_memory=0))
    found = occupy.estimate_classes(tmp_path / "maps", threads=3, scratch=scratch)
    np.testing.assert_array_equal(found.table.values, result.table.values)
    np.testing.assert_array_equal(found.table.errors, result.table.errors)
    assert any(scratch.rglob("*"))
    np.testing.assert_array_equal(found.occupancy("c1").data, result.occupancy("c1").data)
    del found
    gc.collect()
    assert not scratch.exists()
    members = [occupy.Member(name, lambda volume=volume: volume) for name, volume in volumes.items()]
    again = occupy.estimate_classes(members, regions=result.parts[:1], components=False)
    np.testing.assert_array_equal(again.table.values, result.table.values[:1])


@pytest.mark.parametrize("options", [{"threads": 1.5}, {"threads": True}, {"lowpass": "5"}])
def test_wrong_types(volumes, options):
    with pytest.raises(TypeError, match=next(iter(options))):
        occupy.estimate_classes(volumes, **options)


def test_wrong_values(volumes, tmp_path):
    with pytest.raises(InputError, match="threads"):
        occupy.estimate_classes(volumes, threads=0)
    with pytest.raises(InputError, match="finer than two voxels of the maps"):
        occupy.estimate_classes(volumes, lowpass=5.0)
    with pytest.raises(InputError, match="no such file"):
        occupy.estimate_classes(tmp_path / "nothing")
