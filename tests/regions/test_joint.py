"""Occupancies of regions by the joint fit: which atoms are fitted, and what the table then holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from joint_model import SHAPE, TRUTH, VOXEL, clean_map, molecule
from occupy.errors import InputError
from occupy.model import AtomicModel
from occupy.regions.joint import (
    JointRegions,
    _parts_of,
    fit_model,
    fit_regions,
    fit_regions_of_set,
    with_joint,
)
from occupy.regions.region import Region, regions_of_model
from occupy.regions.table import OccupancyTable
from occupy.report.tables import _csv_text, _tsv_text, read_table
from occupy.volume import Frame, Volume


def volume() -> Volume:
    data = clean_map() + 0.05 * clean_map().std() * np.random.default_rng(1).normal(size=SHAPE)
    return Volume.from_array(data.astype(np.float32), VOXEL, "m")


def fitted(given: Volume, regions: tuple[Region, ...], model: AtomicModel | None = None) -> JointRegions:
    fit = fit_regions(given, model or molecule(), regions)
    assert isinstance(fit, JointRegions)
    return fit


def test_chains_are_those_of_the_truth():
    joint = fitted(volume(), regions_of_model(molecule(), volume()))
    assert joint.fit.names == tuple(TRUTH)
    np.testing.assert_allclose(joint.fit.values, list(TRUTH.values()), atol=0.03)
    assert joint.untold == {}
    assert joint.poor == ()


def test_what_no_selection_names_is_fitted_and_says_what_full_is():
    """Of B and D alone, B would be called full."""
    regions = regions_of_model(molecule(), volume(), selections={"b": ["B"], "d": ["D:1-6"]})
    joint = fitted(volume(), regions)
    assert joint.fit.names == ("b", "d", "A", "C", "rest of D", "E")
    assert joint.rows == (0, 1)
    np.testing.assert_allclose(joint.fit.values, [0.6, 0, 1, 1, 0, 1], atol=0.05)


def test_a_chain_s_free_ligands_go_with_it():
    model = molecule()
    residues = [r._replace(kind="ligand") if r.number == 12 else r for r in model.residues]
    changed = replace(model, residues=tuple(residues))
    parts = _parts_of(volume(), changed, regions_of_model(changed, volume()))
    assert {name: len(atoms) for name, atoms in parts.items()} == dict.fromkeys(TRUTH, 120)
    half = regions_of_model(changed, volume(), selections={"half": ["A:1-6"]})
    assert len(_parts_of(volume(), changed, half)["rest of A"]) == 60
    water = [r._replace(kind="water") if r.chain == "A" and r.number == 12 else r for r in model.residues]
    dry = replace(model, residues=tuple(water))
    assert len(_parts_of(volume(), dry, regions_of_model(dry, volume()))["A"]) == 110


def test_permuted_axes_and_a_shifted_frame_change_nothing():
    plain = volume()
    expected = fitted(plain, regions_of_model(molecule(), plain)).fit
    nz, ny, nx = SHAPE
    origin = (40.0, -20.0, 15.0)
    # Columns run along y, rows along z, sections along x.
    frame = Frame(axes=(2, 3, 1), cell=(nx * 2.5, ny * 2.5, nz * 2.5), sampling=(nx, ny, nz), origin=origin)
    permuted = Volume(np.ascontiguousarray(plain.data.transpose(2, 0, 1)), VOXEL, frame, "m")
    moved = replace(molecule(), xyz=molecule().xyz + np.array(origin))
    found = fitted(permuted, regions_of_model(moved, permuted), moved).fit
    assert found.names == expected.names
    np.testing.assert_allclose(found.unlimited, expected.unlimited, atol=1e-4)


def test_a_model_in_another_frame_is_refused_with_the_shift():
    moved = replace(molecule(), xyz=molecule().xyz + np.array([5.0, 0.0, -5.0]))
    with pytest.raises(InputError, match=r"moved by \(-5, \+0, \+5\) Å it would fit"):
        fit_regions(volume(), moved, regions_of_model(moved, volume()))


def test_what_can_t_be_fitted_says_why():
    def why(**options) -> str:
        answer = fit_regions(volume(), molecule(), regions_of_model(molecule(), volume(), **options))
        assert isinstance(answer, str)
        return answer

    assert "single residues" in why(by="residue")
    assert "'one' and 'two' share residues" in why(selections={"one": ["A", "B"], "two": ["B:1-3"]})
    assert "nothing to be compared with" in why(selections={"all": list("ABCDE")})


def test_from_python_chains_are_the_default_and_what_can_t_be_fitted_raises():
    fit = fit_model(volume(), molecule()).fit
    np.testing.assert_allclose(fit.values, list(TRUTH.values()), atol=0.03)
    with pytest.raises(InputError, match="single residues"):
        fit_model(volume(), molecule(), regions_of_model(molecule(), volume(), by="residue"))


def table(regions: tuple[Region, ...], values: list[float], errors: float = 0.02) -> OccupancyTable:
    n = len(regions)
    return OccupancyTable(
        tuple(r.name for r in regions), ("m",), np.array(values)[:, None], np.full((n, 1), errors),
        np.ones(n), np.ones(n), np.ones(1), "scale",
    )  # fmt: skip


def test_the_table_holds_both_and_marks_where_they_differ(tmp_path):
    regions = regions_of_model(molecule(), volume())
    mask = Region("micelle", "mask", np.arange(5), SHAPE)
    regions = (regions[0], mask, *regions[1:])
    joint = fitted(volume(), regions)
    read = table(regions, [0.99, 0.4, 0.9, 0.7, 0.02, 1.0])
    found = with_joint(read, joint)
    assert found.of_map("m")["B"] == pytest.approx(0.6, abs=0.03)
    assert found.of_map("m")["micelle"] == 0.4
    assert found.beside.values.tolist() == read.values.tolist()
    notes = dict(zip(found.regions, (note for (note,) in found.beside.notes), strict=True))
    assert notes["A"] == notes["D"] == notes["E"] == ""
    assert notes["B"].startswith("the map reads higher")
    assert notes["C"].startswith("the map reads lower")
    assert "not a part of the model" in notes["micelle"]
    assert ((found.low <= found.values) & (found.values <= found.high)).all()
    (tmp_path / "t.csv").write_text(_csv_text(found), encoding="utf-8")
    again = read_table(tmp_path / "t.csv")
    np.testing.assert_allclose(again.low, found.low, atol=1e-4)
    np.testing.assert_allclose(again.beside.values, read.values, atol=1e-4)
    assert again.beside.notes == found.beside.notes
    assert "in the map\tnote" in _tsv_text(found)
    # Beyond the errors only.
    unsure = with_joint(table(regions, [0.99, 0.4, 0.9, 0.7, 0.02, 1.0], 0.5), joint)
    assert [note for (note,) in unsure.beside.notes] == [""] + [
        "read in the map: not a part of the model"
    ] + [""] * 4


def test_parts_that_are_not_told_apart_keep_what_was_read():
    regions = regions_of_model(molecule(), volume())
    joint = replace(fitted(volume(), regions), untold={"B": ("C",), "D": ()}, poor=("A",))
    found = with_joint(table(regions, [1.0, 0.9, 1.0, 0.3, 1.0]), joint)
    assert found.of_map("m")["B"] == 0.9
    assert found.of_map("m")["D"] == 0.3
    assert found.beside.notes[1] == ("read in the map: the joint fit cannot tell it from C",)
    assert "unlike its density" in found.beside.notes[0][0]
    record = joint.record(found)
    assert record["parts"][1]["not_separable_from"] == ["C"]
    assert record["parts"][0]["unlike_its_density"]
    assert np.array(record["covariance_of_least_squares"]).shape == (5, 5)


def test_a_model_one_voxel_off_is_used_with_a_word():
    moved = replace(molecule(), xyz=molecule().xyz + np.array([2.5, 0, 0]))
    joint = fitted(volume(), regions_of_model(moved, volume()), moved)
    assert "moved by (-2.5, +0.0, +0.0) Å" in joint.off
    assert [notice.code for notice in joint.notices] == ["model-off"]
    np.testing.assert_allclose(joint.fit.values, list(TRUTH.values()), atol=0.15)
    assert fitted(volume(), regions_of_model(molecule(), volume())).notices == []


def test_a_mirrored_model_is_refused():
    mirrored = replace(molecule(), xyz=molecule().xyz * [1, -1, 1] + [0, 70.0, 0])
    with pytest.raises(InputError, match="mirrored along"):
        fitted(volume(), regions_of_model(mirrored, volume()), mirrored)


def test_classes_are_fitted_together_and_noted_by_class():
    other = {"A": 1.0, "B": 0.1, "C": 1.0, "D": 0.5, "E": 1.0}
    one, two = (Volume.from_array(clean_map(t).astype(np.float32), VOXEL, "m") for t in (TRUTH, other))
    regions = regions_of_model(molecule(), one)
    joints = fit_regions_of_set({"one": lambda: one, "two": lambda: two}, molecule(), regions)
    assert not isinstance(joints, str)
    scales = np.array([[1.0, 0.6, 1.0, 0.4, 1.0], [1.0, 0.1, 1.0, 0.5, 1.0]]).T
    read = OccupancyTable(
        tuple(TRUTH), ("one", "two"), scales, np.full((5, 2), 0.01), np.ones(5), np.ones(5), np.ones(2) / 2
    )
    found = with_joint(read, joints)
    np.testing.assert_allclose(found.values[:, 0], list(TRUTH.values()), atol=0.02)
    np.testing.assert_allclose(found.values[:, 1], list(other.values()), atol=0.02)
    assert found.beside is not None
    assert found.beside.notes[3][0].startswith("the map reads higher")
    assert found.beside.notes[3][1] == ""
    lines = {line.split("\t")[0]: line for line in _tsv_text(found).splitlines()}
    assert lines["region"].endswith("two\tnote")
    assert lines["D"].endswith("(one)")
    assert lines["A"].endswith("\t")
    assert joints["two"].record(found, "two")["parts"][3]["local_scale"] == 0.5
