"""`occupy regions`: from a map, or an earlier estimate, to tables, pictures, scripts and models."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from dataclasses import replace

import gemmi
import numpy as np
import pytest

from molecules import backbone, structure, write
from occupy.io.mrc import read_map, write_map
from occupy.volume import Frame

READ = ("--by-reading", "--model")
"""The blob is no molecule, so the joint fit refuses its models."""


@pytest.fixture
def halves(blob, tmp_path):
    """Return a model with chain A in the half-occupied half of the blob and B in the full one."""
    volume = read_map(blob)
    rng = np.random.default_rng(0)
    chains = {}
    for name, sign in (("A", -1), ("B", 1)):
        # The last axis of the data is the one along which occupancy changes.
        places = np.add(rng.uniform(-4, 4, (30, 3)), (20, 20, 20 + 7 * sign))
        chains[name] = [backbone(i + 1, volume.position(p)) for i, p in enumerate(places)]
    return write(structure(chains), tmp_path / "halves.cif")


def rows(folder, stem="blob_regions"):
    text = (folder / f"{stem}.csv").read_text(encoding="utf-8")
    return {row["region"]: row for row in csv.DictReader(text.splitlines())}


def test_from_a_map_to_everything(cli, blob, halves, work):
    said = cli("regions", blob, *READ, halves, "-o", "out")
    assert (said.code, said.err) == (0, "")
    assert "blob: 2 regions" in said.out
    found = {name: float(row["occupancy"]) for name, row in rows(work / "out").items()}
    assert found["A"] == pytest.approx(0.5, abs=0.12)
    assert found["B"] > 0.85
    assert all(0 < float(row["standard_error"]) < 0.3 for row in rows(work / "out").values())
    record = json.loads((work / "out" / "blob_regions.json").read_text(encoding="utf-8"))
    assert record["outputs"].keys() >= {"csv", "tsv", "strip", "model_script", "record"}
    names = {path.name for path in (work / "out").iterdir()}
    assert names >= set(record["outputs"].values())
    assert names >= {"blob_scale.mrc", "blob_occupy.json"}
    assert record["inputs"]["model"][0]["path"] == str(halves)
    written = gemmi.read_structure(str(work / "out" / record["outputs"]["model_blob"]))
    (value,) = {a.occ for r in written[0]["A"] for a in r}
    assert value == pytest.approx(found["A"], abs=6e-4)


def test_an_earlier_estimate_gives_the_same(cli, blob, halves, work, estimated):
    cli("regions", blob, *READ, halves, "-o", "out", "--quiet")
    done = estimated()
    before = done.names
    assert cli("regions", done.folder, *READ, halves, "-o", "again", "--quiet").code == 0
    assert done.names == before
    assert rows(work / "again") == rows(work / "out")
    assert cli("regions", done.folder / "blob_occupy.json", *READ, halves, "--quiet").code == 0
    assert rows(done.folder) == rows(work / "out")


def test_masks_and_selections(cli, blob, halves, half_mask, work, estimated):
    done = estimated()
    (work / "r.yaml").write_text("first: [A:1-15, B:1-15]\nB only: B\n", encoding="utf-8")
    said = cli("regions", done.folder, "--masks", half_mask, *READ, halves, "--regions", "r.yaml")
    assert said.code == 0
    found = rows(done.folder)
    assert list(found) == ["first", "B only", "half"]
    inside = done["occupancy"][read_map(half_mask).data > 0.5]
    assert float(found["half"]["occupancy"]) == pytest.approx(np.median(inside), abs=1e-4)
    assert int(found["half"]["voxels"]) == inside.size
    assert cli("regions", done.folder, "--masks", half_mask.parent / "ha*.mrc", "-o", "m").code == 0
    assert list(rows(work / "m")) == ["half"]
    assert not list((work / "m").glob("*.defattr"))


def test_an_uncertainty_map_gives_errors(cli, halves, work, estimated):
    """The error of a part as a whole: it does not average out over the voxels of a region."""
    done = estimated()
    scale = read_map(done.path("scale"))
    write_map(done.path("uncertainty"), scale.with_data(np.full(scale.shape, 0.2, np.float32)))
    record = done.record
    del record["files"]["blob_uncertainty.mrc"]
    (done.folder / "blob_occupy.json").write_text(json.dumps(record), encoding="utf-8")
    said = cli("regions", done.folder, *READ, halves)
    assert said.code == 0
    for row in rows(done.folder).values():
        assert float(row["standard_error"]) == pytest.approx(0.2, rel=0.01)
    assert "±" in said.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give --model"),
        (("--by", "chain"), "give --model"),
        (("--masks", "none*.mrc"), "no mask matches 'none*.mrc'"),
        (("--model", "none.cif"), "none.cif: no such file"),
        (("--model", "HALVES", "--by", "atom"), "not by 'atom'"),
        (("--model", "HALVES", "--by", "ligand"), "no ligand in this model"),
        (("--model", "HALVES", "--by", "chain", "--regions", "r.yaml"), "not both"),
        (("--model", "HALVES", "--regions", "r.yaml"), "r.yaml: no such file"),
        (("--masks", "HALVES"), "halves.cif"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(cli, the_error, blob, halves, work, options, words):
    options = [str(halves) if word == "HALVES" else word for word in options]
    assert words in the_error(cli("regions", blob, *options, "-o", "out"))
    assert not (work / "out").exists()


def test_a_model_elsewhere_is_refused_before_anything_is_estimated(cli, the_error, blob, work, tmp_path):
    far = write(structure({"A": [backbone(i, (900, 900, 900 + i)) for i in range(1, 9)]}), tmp_path / "f.cif")
    message = the_error(cli("regions", blob, "--model", far))
    assert "lie outside the box of blob" in message
    assert not list(work.iterdir())


def test_a_model_in_solvent_is_warned_about(cli, blob, work, tmp_path):
    volume = read_map(blob)
    places = [volume.position((3, 3, 3 + i % 3)) for i in range(8)]
    beside = write(structure({"A": [backbone(i + 1, p) for i, p in enumerate(places)]}), tmp_path / "b.cif")
    said = cli("regions", blob, "--model", beside, "-o", "out")
    assert said.code == 0
    assert "1 of 1 regions read no more than solvent" in said.err


def test_a_class_drawn_towards_the_others_is_warned_of(cli, blob, halves, work):
    for name in ("run_it002_class001.mrc", "run_it002_class001_unregularised.mrc"):
        shutil.copy(blob, work / name)
    said = cli("regions", "run_it002_class001.mrc", *READ, halves, "-o", "out")
    assert said.code == 0
    assert "occupy in RELION's loop drew this class towards the others" in said.err
    record = json.loads((work / "out" / "run_it002_class001_regions.json").read_text(encoding="utf-8"))
    assert [n["code"] for n in record["notices"]].count("drawn-class") == 1


def test_an_earlier_estimate_keeps_its_settings(cli, the_error, halves, estimated):
    done = estimated()
    message = the_error(cli("regions", done.folder, "--model", halves, "--lowpass", 12))
    assert "its settings hold" in message


def test_settings_reach_the_estimate(cli, blob, halves, work):
    assert cli("regions", blob, *READ, halves, "--lowpass", 12, "-o", "out", "--quiet").code == 0
    record = json.loads((work / "out" / "blob_occupy.json").read_text(encoding="utf-8"))
    assert record["settings"]["lowpass"] == 12


def test_real_maps_with_known_occupancies(cli, shared_data, work):
    """The consensus of simulated 50S data: values as near to the truth as those of the estimate."""
    data = shared_data("relion_50s")
    said = cli("regions", data / "consensus.mrc", *READ, data / "model.cif", "-o", "out", "--quiet")
    assert (said.code, said.err) == (0, "")
    found = rows(work / "out", "consensus_regions")
    with (data / "truth" / "consensus.csv").open() as stream:
        truth = {row["unit"]: float(row["occupancy"]) for row in csv.DictReader(stream)}
    assert found.keys() == truth.keys()
    errors = [abs(float(found[name]["occupancy"]) - value) for name, value in truth.items()]
    assert np.mean(errors) < 0.03
    assert np.mean([e for e, value in zip(errors, truth.values(), strict=True) if value < 0.99]) < 0.05


def test_a_report_of_regions(cli, blob, halves, work):
    said = cli("regions", blob, *READ, halves, "-o", "out", "--report")
    assert (said.code, said.err) == (0, "")
    assert "blob_regions_report.html" in said.out
    text = (work / "out" / "blob_regions_report.html").read_text(encoding="utf-8")
    assert "2 regions, " in text
    assert 'class="mesh">' in text
    record = json.loads((work / "out" / "blob_regions.json").read_text(encoding="utf-8"))
    assert record["options"]["report"] is True
    assert record["outputs"]["report"] == "blob_regions_report.html"
    # Without it, the report of the earlier run does not stay beside newer results.
    assert cli("regions", work / "out", *READ, halves, "--quiet").code == 0
    assert not (work / "out" / "blob_regions_report.html").exists()


def test_a_report_says_why_there_is_no_surface(cli, blob, halves, work):
    (work / "moved.mrc").write_bytes(blob.read_bytes())
    assert cli("estimate", "moved.mrc", "-o", "out", "--quiet").code == 0
    for change, words in ((lambda p: p.write_bytes(p.read_bytes()[:-4] + b"1234"), "has changed since"),
                          (lambda p: p.unlink(), "no longer at")):  # fmt: skip
        change(work / "moved.mrc")
        assert cli("regions", "out", "--model", halves, "--report", "--quiet").code == 0
        text = (work / "out" / "moved_regions_report.html").read_text(encoding="utf-8")
        assert words in text
        assert 'class="mesh">' not in text


def test_m01_a_model_whose_chain_has_no_name(cli, blob, work):
    first = read_map(blob).position((20, 20, 20))
    atom = "ATOM  %5d  CA  ALA  %4d    %8.3f%8.3f%8.3f  1.00 20.00           C\n"
    lines = [atom % (i, i, *(first + np.array([i - 10, 0, 0]))) for i in range(1, 20)]
    (work / "blank.pdb").write_text("".join(lines) + "END\n")
    (work / "r.yaml").write_text("half: _:1-10\n")
    assert cli("regions", blob, "--model", "blank.pdb", "-o", "out", "--quiet").code == 0
    assert list(rows(work / "out")) == ["_"]
    assert "\t:1-19\t" in (work / "out" / "blob.defattr").read_text()
    chosen = cli("regions", work / "out", "--model", "blank.pdb", "--regions", "r.yaml", "-o", "two")
    assert chosen.code == 0
    assert list(rows(work / "two")) == ["half"]


def test_h05_chimerax_gets_a_model_it_can_open(cli, blob, halves, work):
    packed = work / "m.cif.gz"
    packed.write_bytes(gzip.compress(halves.read_bytes()))
    assert cli("regions", blob, *READ, packed, "-o", "out", "--quiet").code == 0
    assert 'open "m_input.cif"' in (work / "out" / "blob_regions_model.cxc").read_text()
    assert (work / "out" / "m_input.cif").read_bytes() == halves.read_bytes()
    record = json.loads((work / "out" / "blob_regions.json").read_text(encoding="utf-8"))
    assert "m_input.cif" in record["outputs"].values()


def test_m04_a_model_at_an_origin_that_is_not_used_is_told_so(cli, the_error, work, blob):
    at_origin = Frame(cell=(80.0,) * 3, sampling=(40,) * 3, origin=(500.0, 500.0, 500.0))
    write_map(work / "far.mrc", replace(read_map(blob), frame=at_origin))
    volume = read_map(work / "far.mrc")
    (work / "far.mrc").rename(work / "far.map")
    places = np.random.default_rng(0).uniform(15, 25, (30, 3))
    atoms = [backbone(i, volume.position(place)) for i, place in enumerate(places, 1)]
    model = write(structure({"A": atoms}), work / "m.cif")
    message = the_error(cli("regions", "far.map", "--model", model, "-o", "out"))
    assert "outside the box" in message
    assert "ORIGIN (500, 500, 500 Å) is not used" in message
    (work / "far.map").rename(work / "far.mrc")
    assert cli("regions", "far.mrc", "--model", model, "-o", "out", "--quiet").code == 0
