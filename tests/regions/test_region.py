"""Regions hold the voxels they should, in the frame of the map."""

from __future__ import annotations

import logging
from itertools import permutations
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecules import backbone, line, residue, structure, write
from occupy.errors import InputError
from occupy.io.models import read_model
from occupy.model import AtomicModel, Residue
from occupy.regions.region import (
    Region,
    _voxels_near,
    index_of,
    regions_of_masks,
    regions_of_model,
    residue_values,
)
from occupy.volume import Frame, Volume

ORDERS = [(a, b, c) for a, b, c in permutations((1, 2, 3))]


def grid(shape=(30, 32, 34), size=(2.0, 2.0, 2.0), frame=None, name="grid") -> Volume:
    return Volume(np.zeros(shape, np.float32), size, Frame() if frame is None else frame, name)


def model_at(points, chain="A") -> AtomicModel:
    residues = tuple(Residue(0, chain, i + 1, "", "ALA", "1", "polymer") for i in range(len(points)))
    count = len(points)
    return AtomicModel(
        ("m",), np.array(points, float), np.arange(count), np.ones(count, dtype=bool), residues
    )


@pytest.fixture
def complex_model(tmp_path: Path) -> AtomicModel:
    """A and B are the same molecule, C another; A has a ligand, D is a sugar by itself."""
    heme = residue(
        301,
        [("FE", "Fe", (40, 20, 20)), ("C1", "C", (42, 20, 20))],
        name="HEM",
        kind=gemmi.EntityType.NonPolymer,
    )
    sugar = residue(1, [("C1", "C", (40, 50, 20))], name="NAG", kind=gemmi.EntityType.NonPolymer)
    water = residue(900, [("O", "O", (10, 50, 50))], name="HOH", kind=gemmi.EntityType.Water)
    made = structure(
        {
            "A": [*line((10, 10, 10), 6), heme, water],
            "B": line((10, 30, 10), 6),
            "C": [*line((10, 30, 40), 6), backbone(7, (40, 30, 40))],
            "D": [sugar],
        }
    )
    return read_model(write(made, tmp_path / "complex.cif"))


@given(
    st.sampled_from(ORDERS),
    st.tuples(*[st.floats(0.5, 4)] * 3),
    st.one_of(st.just((0.0, 0.0, 0.0)), st.tuples(*[st.floats(-200, 200)] * 3)),
    st.tuples(*[st.integers(-90, 90)] * 3),
)
def test_index_of_inverts_position(axes, size, origin, nstart) -> None:
    volume = grid((5, 6, 7), size, Frame(axes=axes, origin=origin, nstart=nstart, sampling=(7, 6, 5)))
    index = np.random.default_rng(0).uniform(-3, 9, (20, 3))
    np.testing.assert_allclose(index_of(volume, volume.position(index)), index, atol=1e-6)


@pytest.mark.parametrize("size", [(2.0, 2.0, 2.0), (0.7, 1.3, 2.9), (5.0, 4.0, 3.5)])
def test_voxels_are_those_within_the_radius_and_the_nearest(size) -> None:
    rng = np.random.default_rng(3)
    shape = (9, 10, 11)
    volume = grid(shape, size)
    atoms = rng.uniform(-1, 11, (7, 3))
    centres = np.stack(np.indices(shape), -1).reshape(-1, 3)
    distance = np.linalg.norm((centres[None] - atoms[:, None]) * size, axis=-1)
    wanted = (distance <= 3.0).any(0)
    nearest = np.rint(atoms).astype(int)
    inside = nearest[((nearest >= 0) & (nearest < shape)).all(1)]
    wanted[np.ravel_multi_index(tuple(inside.T), shape)] = True
    (found,) = _voxels_near(volume, atoms, [np.arange(7)], 3.0)
    assert np.array_equal(found, np.flatnonzero(wanted))


@pytest.mark.parametrize("axes", ORDERS)
def test_a_model_lies_where_chimerax_shows_it(axes) -> None:
    frame = Frame(axes=axes, origin=(-40.0, 12.5, 100.0), sampling=(30, 30, 30))
    volume = grid((30, 30, 30), (2.0, 1.5, 3.0), frame)
    place = (4, 20, 11)
    (region,) = regions_of_model(model_at([volume.position(place)]), volume)
    assert place in list(zip(*region.index, strict=True))
    middle = np.mean([volume.position(v) for v in zip(*region.index, strict=True)], axis=0)
    np.testing.assert_allclose(middle, volume.position(place), atol=1e-6)


def test_chains_leave_out_water_and_ligands(complex_model) -> None:
    regions = {r.name: r for r in regions_of_model(complex_model, grid())}
    assert list(regions) == ["A", "B", "C", "D"]
    numbers = [complex_model.residues[i].number for i in regions["A"].residues]
    assert numbers == [1, 2, 3, 4, 5, 6]
    # Only CA atoms count: N and C lie 6 Å higher.
    assert set(regions["A"].index[0]) <= {4, 5, 6}
    assert regions["D"].kind == "chain"
    assert len(regions["D"].voxels) > 1  # a sugar has no CA: all its atoms count


def test_entities_residues_and_ligands(complex_model) -> None:
    by = {kind: regions_of_model(complex_model, grid(), kind) for kind in ("entity", "residue", "ligand")}
    assert sorted(len(r.residues) for r in by["entity"]) == [7, 12]
    assert len(by["residue"]) == 6 + 1 + 6 + 7 + 1
    assert by["residue"][6].name == "A:301"
    assert [r.name for r in by["ligand"]] == ["A:HEM301", "D:NAG1"]
    x = np.unique(by["ligand"][0].index[2]) * 2.0
    assert (x.min(), x.max()) == (38.0, 44.0)  # both atoms, at 40 and 42


def test_selections(complex_model) -> None:
    wanted = {"ends": ["A:1-2,6", "B:5-99"], "all of C": ["C"], "heme": ["A:301"]}
    regions = regions_of_model(complex_model, grid(), selections=wanted)
    found = {
        r.name: [(complex_model.residues[i].chain, complex_model.residues[i].number) for i in r.residues]
        for r in regions
    }
    assert found == {
        "ends": [("A", 1), ("A", 2), ("A", 6), ("B", 5), ("B", 6)],
        "all of C": [("C", i) for i in range(1, 8)],
        "heme": [("A", 301)],
    }
    assert {r.kind for r in regions} == {"selection"}


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("X", "no chain 'X' .it has A, B, C, D"),
        ("A:x", "'A:x' is not understood"),
        ("A:9-5", "runs backwards"),
        ("A:50-60", r"no residues 50-60 in chain A .it has 1 to 301"),
    ],
)
def test_selections_that_name_nothing(complex_model, part, words) -> None:
    with pytest.raises(InputError, match=words):
        regions_of_model(complex_model, grid(), selections={"s": [part]})


def test_negative_numbers_and_names_with_colons() -> None:
    residues = tuple(Residue(0, "B:1", i, "", "ALA", "1", "polymer") for i in range(-5, 5))
    model = AtomicModel(("m",), np.full((10, 3), 20.0), np.arange(10), np.ones(10, bool), residues)
    found = regions_of_model(model, grid(), selections={"a": ["B:1:-3--1,4"], "b": ["B:1"]})
    assert [len(r.residues) for r in found] == [4, 10]


def test_a_model_outside_is_one_error_that_says_how_far() -> None:
    with pytest.raises(InputError) as caught:
        regions_of_model(model_at([(500, 500, 500), (510, 500, 500)]), grid())
    text = str(caught.value)
    assert "100% of its atoms lie outside the box of grid" in text
    assert "x -1 to 67" in text
    assert "fitmap" in text
    assert f"{np.linalg.norm([505 - 67, 500 - 63, 500 - 59]):.0f} Å away" in text


@pytest.mark.parametrize("centred", [False, True])
def test_the_usual_shifts_are_recognised(centred) -> None:
    frame = Frame(origin=(300.0, 300.0, 300.0), cell=(68, 64, 60), sampling=(34, 32, 30))
    points = np.random.default_rng(1).uniform(-20, 20, (50, 3)) + (0 if centred else 30)
    with pytest.raises(InputError, match="middle of the box" if centred else "began at 0, 0, 0") as caught:
        regions_of_model(model_at(points), grid(frame=frame))
    assert "ORIGIN" in str(caught.value)
    shift = "334, 332, 330" if centred else "300, 300, 300"
    assert f"shift the model by {shift} Å" in str(caught.value)


def test_a_model_that_follows_the_other_record_is_recognised() -> None:
    frame = Frame(origin=(300.0, 0.0, 0.0), nstart=(-300, 0, 0), cell=(68, 64, 60), sampling=(34, 32, 30))
    points = np.random.default_rng(1).uniform(10, 50, (50, 3)) - (600, 0, 0)
    with pytest.raises(InputError, match=r"NSTART counted and not its ORIGIN.*by 900, 0, 0 Å"):
        regions_of_model(model_at(points), grid(frame=frame))


def test_parts_outside_are_left_out_and_named(caplog) -> None:
    inside = model_at(np.full((3, 3), 20.0))
    residues = (*inside.residues, Residue(0, "Z", 1, "", "ALA", "2", "polymer"))
    model = AtomicModel(
        ("m",), np.vstack([inside.xyz, [[900, 0, 0]]]), np.arange(4), np.ones(4, bool), residues
    )
    with caplog.at_level(logging.WARNING, "occupy"):
        regions = regions_of_model(model, grid())
    assert [r.name for r in regions] == ["A"]
    assert "outside the box, so left out: Z" in caplog.text


def test_nothing_of_the_kind() -> None:
    model = model_at([(20, 20, 20)])
    with pytest.raises(InputError, match="no ligand in this model"):
        regions_of_model(model, grid(), "ligand")
    with pytest.raises(InputError, match="chain, residue, entity, ligand, not by 'atom'"):
        regions_of_model(model, grid(), "atom")  # type: ignore[arg-type]


def test_masks_above_a_half() -> None:
    volume = grid()
    data = np.zeros(volume.shape, np.float32)
    data[3, 4, 5], data[3, 4, 6], data[3, 4, 7] = 1.0, 0.51, 0.5
    (region,) = regions_of_masks(iter([volume.with_data(data, "soft")]), volume)
    assert (region.name, region.kind, len(region.residues)) == ("soft", "mask", 0)
    assert [v.tolist() for v in region.index] == [[3, 3], [4, 4], [5, 6]]


def test_masks_on_other_grids_say_how() -> None:
    volume = grid(frame=Frame(cell=(68, 64, 60), sampling=(34, 32, 30)))
    full = np.ones(volume.shape, np.float32)
    cases = [
        (Volume(np.ones((8, 8, 8), np.float32), volume.voxel_size), "8 x 8 x 8 voxels, not 34 x 32 x 30"),
        (Volume(full, (2.0, 2.0, 2.5)), "2.5 Å per voxel, not 2"),
        (Volume(full, (2.0, 2.0, 2.0), Frame(axes=(2, 1, 3))), "axes are in the order"),
        (volume.with_data(full * 0.4, "faint"), "faint is empty.*largest is 0.4"),
    ]
    for mask, words in cases:
        with pytest.raises(InputError, match=words):
            regions_of_masks([mask], volume)
    with pytest.raises(InputError, match="two masks are called"):
        regions_of_masks([volume.with_data(full), volume.with_data(full)], volume)
    with pytest.raises(InputError, match="no masks"):
        regions_of_masks([], volume)


def test_a_shifted_mask_is_taken_with_a_warning(caplog) -> None:
    volume = grid(frame=Frame(origin=(50.0, 0, 0), cell=(68, 64, 60), sampling=(34, 32, 30)))
    with caplog.at_level(logging.WARNING, "occupy"):
        regions_of_masks([Volume(np.ones(volume.shape, np.float32), (2.0,) * 3, name="m")], volume)
    assert "begins -50, 0, 0 Å from" in caplog.text


def test_residues_take_the_value_of_their_smallest_region() -> None:
    model = model_at(np.full((4, 3), 20.0))
    regions = [
        Region("part", "selection", [1], (2, 2, 2), [1]),
        Region("whole", "selection", [1], (2, 2, 2), [0, 1, 2]),
    ]
    np.testing.assert_array_equal(residue_values(model, regions, [0.2, 0.9]), [0.9, 0.2, 0.9, np.nan])


def test_regions_are_fixed_and_checked() -> None:
    region = Region(" two\nlines ", "mask", [7, 1], (2, 2, 2))
    assert region.name == "two lines"
    assert not region.voxels.flags.writeable
    for name, voxels in (("", [1]), ("x", [8]), ("x", [-1])):
        with pytest.raises(ValueError):
            Region(name, "mask", voxels, (2, 2, 2))
