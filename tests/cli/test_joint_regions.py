"""`occupy regions` with a model: the joint fit, on the map of `occupy demo`."""

from __future__ import annotations

import csv
import json

import gemmi
import numpy as np
import pytest
import yaml

from occupy.io.mrc import read_map, write_map
from occupy.simulation import demo_occupancies, demo_structure, simulate
from occupy.volume import Volume

TRUTH = {"A": 1, "B": 1, "C": 1, "D": 0.5, "E": 0.3, "F": 0.75, "G": 0.15, "U": 1, "V": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with demo.mrc, demo.cif and, in ``done``, its regions by the joint fit."""
    folder = tmp_path_factory.mktemp("demo")
    structure = demo_structure()
    demo = simulate(structure, occupancies=demo_occupancies(structure), seed=0)
    write_map(folder / "demo.mrc", Volume.from_array(demo.map, demo.voxel_size, "demo"))
    demo.structure.make_mmcif_document().write_file(str(folder / "demo.cif"))
    return folder


@pytest.fixture
def done(cli, made):
    folder = made / "done"
    if not folder.exists():
        said = cli("regions", made / "demo.mrc", "--model", made / "demo.cif", "-o", folder)
        assert (said.code, said.err) == (0, "")
    return folder


def rows(folder):
    text = (folder / "demo_regions.csv").read_text(encoding="utf-8")
    return {row["region"]: row for row in csv.DictReader(text.splitlines())}


def test_the_chains_of_the_demo(cli, made, done):
    found = rows(done)
    for name, truth in TRUTH.items():
        assert float(found[name]["occupancy"]) == pytest.approx(truth, abs=0.05)
        assert float(found[name]["low_95"]) - 0.02 <= truth <= float(found[name]["high_95"]) + 0.02
    record = json.loads((done / "demo_regions.json").read_text(encoding="utf-8"))
    joint = record["joint_fit"]
    assert record["values"] == "occupancy"
    assert (done / record["outputs"]["forest"]).stat().st_size > 5000
    assert [part["name"] for part in joint["parts"]] == list(found)
    assert np.array(joint["covariance_of_least_squares"]).shape == (9, 9)
    assert joint["full_level"] > 0 < joint["full_level_error"]
    written = gemmi.read_structure(str(done / record["outputs"]["model_demo"]))
    (value,) = {round(atom.occ, 3) for residue in written[0]["D"] for atom in residue}
    assert value == pytest.approx(float(found["D"]["occupancy"]), abs=1e-3)
    # Today's reading stands beside, and --by-reading gives it alone.
    assert cli("regions", done, "--model", made / "demo.cif", "--by-reading", "-o", made / "read").code == 0
    read = rows(made / "read")
    assert "local_scale" not in read["A"]
    assert {n: r["local_scale"] for n, r in found.items()} == {n: r["occupancy"] for n, r in read.items()}
    record = json.loads((made / "read" / "demo_regions.json").read_text(encoding="utf-8"))
    assert record["values"] == "occupancy"
    assert "joint_fit" not in record
    assert "forest" not in record["outputs"]
    assert "joint_fit" not in record


def test_files_for_refinement_name_the_partial_parts(cli, made, done, work, the_error):
    record = json.loads((done / "demo_regions.json").read_text(encoding="utf-8"))
    text = (done / record["outputs"]["servalcat_demo"]).read_text(encoding="ascii")
    groups = yaml.safe_load(text)["refine"]["occ_groups"]
    assert [group["selections"] for group in groups] == [["D"], ["E"], ["F"], ["G"]]
    assert "occupancy group id 4 chain G" in (done / record["outputs"]["refmac_demo"]).read_text()
    assert 'selection = "(chain G)"' in (done / record["outputs"]["phenix_demo"]).read_text()
    words = ("regions", done, "--model", made / "demo.cif", "--quiet", "-o", "out", "--exclusive")
    assert cli(*words, "D | F").code == 0
    found = rows(work / "out")
    assert float(found["D"]["occupancy"]) + float(found["F"]["occupancy"]) == pytest.approx(1, abs=0.02)
    assert "alts incomplete 1 3" in (work / "out" / "demo_demo_refmac.txt").read_text()
    assert cli(*words, "D | G = 1").code == 0
    found = rows(work / "out")
    assert float(found["D"]["occupancy"]) + float(found["G"]["occupancy"]) == pytest.approx(1, abs=0.001)
    assert "alts complete 1 4" in (work / "out" / "demo_demo_refmac.txt").read_text()
    assert "complete: true" in (work / "out" / "demo_demo_servalcat.yaml").read_text()
    assert "D | Z" in the_error(cli(*words, "D | Z"))
    assert "--exclusive" in the_error(cli(*words, "D | F", "--by-reading"))


def test_an_earlier_estimate_is_fitted_in_its_map_while_that_is_there(cli, made, done, work):
    model = made / "demo.cif"
    assert cli("regions", done, "--model", model, "-o", "again", "--quiet").code == 0
    assert rows(work / "again") == rows(done)
    hidden = made / "demo.mrc"
    hidden.rename(made / "elsewhere.mrc")
    try:
        said = cli("regions", done, "--model", model, "-o", "without")
    finally:
        (made / "elsewhere.mrc").rename(hidden)
    assert said.code == 0
    assert "not a joint fit: the map is no longer at" in said.err
    assert "local_scale" not in rows(work / "without")["A"]


def test_residues_are_read_and_that_is_said(cli, made, done, work):
    said = cli("regions", done, "--model", made / "demo.cif", "--by", "residue", "-o", "out")
    assert said.code == 0
    assert said.err.count("\n") == 1
    assert "single residues are too small for the joint fit" in said.err


def test_another_frame_is_refused_before_anything_is_written(cli, the_error, made, work):
    moved = read_map(made / "demo.mrc")
    write_map(work / "m.mrc", moved.with_data(np.roll(moved.data, (3, 0, -3), axis=(0, 1, 2))))
    message = the_error(cli("regions", "m.mrc", "--model", made / "demo.cif", "-o", "out"))
    assert "moved by (-9, +0, +9) Å it would fit" in message
    assert "--by-reading" in message
    assert not (work / "out").exists()
