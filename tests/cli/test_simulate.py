"""`occupy simulate`: what it writes can be read as what it stands for."""

from __future__ import annotations

import csv
import json

import gemmi
import numpy as np
import pytest

from chimerax_standin import ChimeraX
from occupy.io.mrc import read_map
from occupy.io.sets import find_set
from occupy.simulation import Processing, chain_values, demo_structure, simulate, simulate_classes

SMALL = ("--voxel-size", 6, "--resolution", 12, "--box", 36)


@pytest.fixture
def model_file(tmp_path):
    """Return three small chains as a file."""
    part = demo_structure()
    for name in [chain.name for chain in part[0] if chain.name not in ("G", "U", "V")]:
        part[0].remove_chain(name)
    path = tmp_path / "part.cif"
    part.make_mmcif_document().write_file(str(path))
    return path


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_one_map_with_halves_model_truth_and_record(cli, tmp_path, model_file):
    out = tmp_path / "out"
    said = cli(
        "simulate", model_file, "-o", out, *SMALL, "--occupancy", "G=0.5,U=0.2", "--b-factor", "V=150",
        "--sharpen", 40, "--snr", 12, "--seed", 7,
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    names = sorted(path.name for path in out.iterdir())
    expected = ["b_factors.csv", "half1.mrc", "half2.mrc", "model.cif", "simulation.json", "truth.csv"]
    assert names == sorted(["part.mrc", "part.cxc", *(f"part_{name}" for name in expected)])
    assert {line.rsplit("/")[-1] for line in said.out.split()} == set(names)

    made = simulate(
        gemmi.read_structure(str(model_file)), voxel_size=6, resolution=12, box=36,
        occupancies={"G": 0.5, "U": 0.2}, b_factors={"V": 150}, signal_to_noise=12, half_maps=True,
        processing=Processing(sharpening=40), seed=7,
    )  # fmt: skip
    np.testing.assert_array_equal(read_map(out / "part.mrc").data, made.map)
    np.testing.assert_array_equal(read_map(out / "part_half2.mrc").data, made.half_maps[1])
    truth = rows_of(out / "part_truth.csv")
    assert list(truth[0]) == ["unit", "block", "occupancy"]
    assert {row["unit"]: float(row["occupancy"]) for row in truth} == {"G": 0.5, "U": 0.2, "V": 1.0}
    assert {row["unit"]: float(row["b_factor"]) for row in rows_of(out / "part_b_factors.csv")}["V"] == 150
    ChimeraX(set(names)).run((out / "part.cxc").read_text())
    record = json.loads((out / "part_simulation.json").read_text())
    assert record["settings"]["seed"] == 7
    assert record["settings"]["occupancy"] == ["G=0.5,U=0.2"]
    assert record["outputs"]["map"] == "part.mrc"


def test_the_written_model_lies_in_the_map(cli, tmp_path, model_file):
    out = tmp_path / "out"
    cli("simulate", model_file, "-o", out, *SMALL, "--snr", "inf", "--name", "mine", "--no-half-maps")
    assert not list(out.glob("*half*"))
    volume = read_map(out / "mine.mrc")
    values = chain_values(volume.data, 6.0, gemmi.read_structure(str(out / "mine_model.cif")))
    assert set(values) == {"G", "U", "V"}
    assert min(values.values()) > 5 * np.abs(np.median(volume.data))


def test_a_table_gives_occupancies_b_factors_and_blocks(cli, tmp_path, model_file):
    table = tmp_path / "chains.csv"
    table.write_text("chain,occupancy,b_factor,block\nG,0.3,,arm\nU,,80,\n")
    said = cli(
        "simulate", model_file, "-o", tmp_path / "out", *SMALL, "--chains", table, "--occupancy", "V=0.9"
    )
    assert (said.code, said.err) == (0, "")
    truth = {row["unit"]: row for row in rows_of(tmp_path / "out" / "part_truth.csv")}
    assert {name: float(row["occupancy"]) for name, row in truth.items()} == {"G": 0.3, "U": 1.0, "V": 0.9}
    assert truth["G"]["block"] == "arm"
    b_factors = rows_of(tmp_path / "out" / "part_b_factors.csv")
    assert [float(row["b_factor"]) for row in b_factors] == [0, 80, 0]


def test_drawn_ones_are_the_same_for_the_same_seed(cli, tmp_path):
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        said = cli(
            "simulate", "demo", "-o", tmp_path / name, *SMALL, "--draw", "--full", 0.3, "--blocks", 3,
            "--draw-b-factor", 120, "--seed", seed,
        )  # fmt: skip
        assert (said.code, said.err) == (0, "")
    texts = [(tmp_path / name / "demo_truth.csv").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert (tmp_path / "a" / "demo.mrc").read_bytes() == (tmp_path / "b" / "demo.mrc").read_bytes()
    assert {"core", "B1"} < {row["block"] for row in rows_of(tmp_path / "a" / "demo_truth.csv")}


def test_drawn_classes_read_as_a_relion_job(cli, tmp_path):
    out = tmp_path / "job"
    said = cli(
        "simulate", "demo", "-o", out, *SMALL, "--classes", 3, "--blocks", 3, "--class3d", "--snr", 300,
        "--tau2-fudge", 4,
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    found = find_set([out])
    assert (found.kind, found.iteration, len(found.maps), found.notices) == ("relion", 25, 3, ())
    assert found.pixel_size == 6.0
    assert found.tau_fudge == 4.0
    record = json.loads((out / "simulation.json").read_text())
    truth = rows_of(out / "truth.csv")
    assert list(truth[0]) == ["unit", "block", "class001", "class002", "class003"]
    for entry, weight in zip(found.maps, record["numbers"]["weights"], strict=True):
        assert entry.weight == pytest.approx(weight, abs=1e-6)
        assert 12 <= entry.resolution < 60
        assert len(entry.ssnr) == 19
        assert not read_map(entry.path).data[0, 0, 0]
    consensus = {row["unit"]: float(row["occupancy"]) for row in rows_of(out / "truth_consensus.csv")}
    for row in truth:
        mean = sum(w * float(row[f"class00{k}"]) for k, w in enumerate(record["numbers"]["weights"], 1))
        assert consensus[row["unit"]] == pytest.approx(mean, abs=1e-6)
    assert len(record["numbers"]["states"]) == 3


def test_a_composition_is_taken_as_it_is(cli, tmp_path, model_file):
    table, out = tmp_path / "composition.csv", tmp_path / "job"
    table.write_text("unit,block,first,second\nG,arm,1,0.25\nU,,0.5,0\n")
    said = cli(
        "simulate", model_file, "-o", out, *SMALL, "--composition", table, "--weights", "3,1",
        "--class-noise", "1,0.5",
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    truth = {
        row["unit"]: (float(row["class001"]), float(row["class002"])) for row in rows_of(out / "truth.csv")
    }
    assert truth == {"G": (1, 0.25), "U": (0.5, 0), "V": (1, 1)}
    found = find_set([out])
    assert [entry.weight for entry in found.maps] == [0.75, 0.25]
    # Not shrunk, so nothing may say that they were.
    assert found.maps[0].ssnr is None
    made = simulate_classes(
        gemmi.read_structure(str(model_file)), ({"G": 1, "U": 0.5}, {"G": 0.25, "U": 0}), weights=(3, 1),
        class_noise=(1, 0.5), voxel_size=6, resolution=12, box=36,
    )  # fmt: skip
    np.testing.assert_array_equal(read_map(found.maps[1].path).data, made.classes[1].map)


def test_several_models_make_one_complex(cli, tmp_path, model_file):
    structure = gemmi.read_structure(str(model_file))
    pieces = []
    for name in "GU":
        piece = structure.clone()
        for chain in [c.name for c in piece[0] if c.name != name]:
            piece[0].remove_chain(chain)
        pieces.append(tmp_path / f"{name}.pdb")
        piece.write_pdb(str(pieces[-1]))
    said = cli("simulate", *pieces, "-o", tmp_path / "two", *SMALL)
    assert (said.code, said.err) == (0, "")
    assert [row["unit"] for row in rows_of(tmp_path / "two" / "G_truth.csv")] == ["G", "U"]
    # The same chain name twice: files' names in front.
    twice = tmp_path / "copy.pdb"
    twice.write_bytes(pieces[0].read_bytes())
    cli("simulate", pieces[0], twice, "-o", tmp_path / "same", *SMALL)
    assert [row["unit"] for row in rows_of(tmp_path / "same" / "G_truth.csv")] == ["G_G", "copy_G"]


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        (("absent.cif",), "absent.cif: no such file"),
        (("{model}", "--occupancy", "Q=0.5"), "'Q'"),
        (("{model}", "--occupancy", "G"), "CHAIN=NUMBER"),
        (("{model}", "--occupancy", "G=2"), "within 0 and 1"),
        (("{model}", "--b-factor", "G=-3"), "-3"),
        (("{model}", "--resolution", "4"), "two voxels"),
        (("{model}", "--mask", "cube"), "'cube'"),
        (("{model}", "--snr", "inf", "--wiener"), "infinite"),
        (("{model}", "--classes", "3", "--draw"), "--draw and --classes"),
        (("{model}", "--classes", "0"), "classes must be at least 1"),
        (("{model}", "--classes", "2", "--weights", "a,b"), "--weights"),
        (("{model}", "--chains", "{model}"), "no column 'chain'"),
        (("{model}", "--seed", "-1"), "--seed"),
        (("{model}", "--weights", "1,1"), "--weights is about classes"),
        (("{model}", "--partial-everywhere"), "--partial-everywhere is about classes"),
        (("{model}", "--blocks", "2"), "--blocks is about what is drawn"),
    ],
)
def test_mistakes_give_one_line_and_no_files(cli, tmp_path, model_file, words, quoted):
    given = [str(word).format(model=model_file) for word in words]
    said = cli("simulate", "-o", tmp_path / "out", "--voxel-size", 6, "--resolution", 12, *given)
    assert said.code == 1
    assert quoted in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("chain,occupancy\nG,x\n", "line 2: column occupancy is not a number: 'x'"),
        ("chain,occupancy\nG,1\nG,0\n", "line 3: chain 'G' twice"),
        ("chain,occupancy\nG,1,2\n", "line 2: more cells"),
        ("chain,occupancy\n,1\n", "line 2: no chain"),
        ("chain,occupancy\n", "no rows"),
        ("chain,occupancy,occupancy\nG,1,1\n", "two columns"),
        ("", "no column"),
        ("chain,colour\nG,1\n", "unknown column 'colour'"),
    ],
)
def test_mistakes_in_tables_say_where(cli, tmp_path, model_file, text, quoted):
    table = tmp_path / "table.csv"
    table.write_text(text)
    said = cli("simulate", model_file, "-o", tmp_path / "out", "--chains", table)
    assert said.code == 1
    assert quoted in said.err
    assert str(table) in said.err


def test_a_table_of_occupancies_does_not_go_with_classes(cli, tmp_path, model_file):
    table = tmp_path / "table.csv"
    table.write_text("chain,occupancy\nG,0.5\n")
    said = cli("simulate", model_file, "-o", tmp_path / "out", "--chains", table, "--classes", 2)
    assert said.code == 1
    assert "--composition" in said.err


def test_a_damaged_model_is_one_line(cli, tmp_path):
    for name, text in (("a.cif", "data_x\nloop_\n_a\n"), ("b.pdb", "nothing\n"), ("c.xyz", "?")):
        path = tmp_path / name
        path.write_text(text)
        said = cli("simulate", path, "-o", tmp_path / "out")
        assert said.code == 1
        assert name in said.err
        assert said.err.count("\n") == 1
