"""`occupy select`: from a table of occupancies back to particles."""

from __future__ import annotations

import csv
import json
import pickle
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occupy.io.mrc import read_map
from occupy.io.star import read_star
from occupy.regions.table import OccupancyTable
from occupy.report.tables import write_tables

Relion = Callable[..., subprocess.CompletedProcess[str]]
Cli = Callable[..., Any]
RELION_STAR = """
data_particles

loop_
_rlnImageName #1
_rlnClassNumber #2
_rlnMaxValueProbDistribution #3
"""


def table_folder(
    folder: Path,
    values: Mapping[str, Sequence[float]],
    *,
    error: float = 0.05,
    kind: str = "relion",
    base: int | None = 1,
    weights: Sequence[float] | None = None,
) -> Path:
    """Write a table and the record of its set, as `occupy classes` does."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(values.values())))
    first = 0 if base is None else base
    names = tuple(f"class{first + i:03d}" for i in range(count))
    data = np.array([list(v) for v in values.values()])
    ones = np.ones(len(values))
    table = OccupancyTable(
        tuple(values), names, data, np.full(data.shape, error), ones, ones, np.full(count, np.nan)
    )
    write_tables(folder, table)
    shares = weights or [1 / count] * count
    maps = [
        {"name": name, "number": first + i, "path": f"{name}.mrc", "weight": shares[i], "particles": None}
        for i, name in enumerate(names)
    ]
    record = {"kind": kind, "source": "Class3D/job001/run_it025_model.star", "base": base, "maps": maps}
    (folder / "occupy_set.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def classes(work: Path) -> Path:
    values = {"L17": [0.9, 0.2, 0.72], "CP": [0.1, 0.9, 0.5], "core": [1.0, 1.0, 1.0]}
    return table_folder(work / "classes", values, weights=[0.5, 0.3, 0.2])


@pytest.fixture
def data_star(work: Path) -> Path:
    rows = [f"{i:06d}@a.mrcs {1 + i % 3} 0.{i}\n" for i in range(1, 10)]
    (work / "data.star").write_text(RELION_STAR + "".join(rows))
    return work / "data.star"


def selected(path: Path) -> list[int]:
    return [int(n) for n in read_star(path)["particles"].column("rlnClassNumber")]


def test_the_line_of_the_manual(cli: Cli, classes: Path, data_star: Path) -> None:
    said = cli(
        "select", classes, "--particles", data_star, "--region", "L17", "--present", 0.7, "-o", "out.star"
    )
    assert said.code == 0, said.err
    assert set(selected(Path("out.star"))) == {1, 3}
    assert "L17 >= 0.7: 2 of 3 classes" in said.out
    assert "selected: 6 of 9 particles (66.7 %; by probability 70.0 %)" in said.out
    assert "expected: L17 0.81 ± 0.05 in the selection, 0.20 in the rest" in said.out
    assert "does not settle it for class003 (selected)" in said.err
    record = json.loads(Path("out_selection.json").read_text())
    assert record["numbers"]["selected"] == 6
    assert [c["selected"] for c in record["classes"]] == [True, False, True]
    assert [c["undecided"] for c in record["classes"]] == [False, False, True]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--region", "CP", "--absent", 0.3], {1}),
        (["--region", "CP", "--region", "L17", "--present", 0.5], {3}),
        (["--region", "CP", "--region", "L17", "--present", 0.6, "--any"], {1, 2, 3}),
        (["--where", "L17 >= 0.7 and CP >= 0.4 or CP > 0.8"], {2, 3}),
        (["--region", "L17", "--present", 0.7, "--certain"], {1}),
    ],
)
def test_conditions(cli: Cli, classes: Path, data_star: Path, options: list[Any], wanted: set[int]) -> None:
    said = cli("select", classes, "--particles", data_star, *options, "-o", "out.star")
    assert said.code == 0, said.err
    assert set(selected(Path("out.star"))) == wanted


def test_the_matrix_picked_by_hand_means_the_table_beside_it(
    cli: Cli, classes: Path, data_star: Path
) -> None:
    (classes / "occupancy.tsv").write_text("region\tvoxels\n")
    words = ["--particles", data_star, "--region", "CP", "--present", 0.5, "-o", "out.star"]
    of_folder = cli("select", classes, *words)
    assert of_folder.code == 0
    assert cli("select", classes / "occupancy.tsv", *words).out == of_folder.out


def test_the_table_alone_needs_to_be_told_the_set(
    cli: Cli, classes: Path, data_star: Path, the_error: Callable[..., str]
) -> None:
    (classes / "occupy_set.json").unlink()
    words = ["--particles", data_star, "--region", "CP", "--present", 0.5, "-o", "out.star"]
    said = cli("select", classes / "occupancy.csv", *words)
    assert "--set" in the_error(said)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "which region?"),
        (["--region", "CP"], "either --present or --absent"),
        (["--region", "CP", "--present", 0.5, "--absent", 0.2], "--where"),
        (["--region", "CP", "--where", "CP > 0.5"], "either --where"),
        (["--region", "C", "--present", 0.5], "no region 'C'"),
        (["--region", "CP", "--present", 5], "between 0 and 1"),
        (["--region", "core", "--absent", 0.1], "no class fulfils core <= 0.1: core is 1.00 ± 0.05"),
        (["--where", "CP >"], "missing at the end"),
        (["--region", "CP", "--present", 0.5, "--map-base", 0], "counts its maps from 1"),
        (["--region", "CP", "--present", 0.5, "--parent-ind", "x.pkl"], "cryoDRGN"),
        (["--region", "CP", "--present", 0.5, "--class-field", "x/class"], "for .cs files"),
    ],
)
def test_mistakes(
    cli: Cli, classes: Path, data_star: Path, the_error: Callable[..., str], options: list[Any], text: str
) -> None:
    said = cli("select", classes, "--particles", data_star, *options, "-o", "out.star")
    assert text in the_error(said)
    assert sorted(p.name for p in Path().iterdir()) == ["classes", "data.star"]


def test_particles_are_never_written_over_themselves(
    cli: Cli, classes: Path, data_star: Path, the_error: Callable[..., str]
) -> None:
    before = data_star.read_bytes()
    said = cli(
        "select", classes, "--particles", data_star, "--region", "CP", "--present", 0.5, "-o", data_star
    )
    assert "read from" in the_error(said)
    assert data_star.read_bytes() == before


def test_a_damaged_record_is_refused(
    cli: Cli, classes: Path, data_star: Path, the_error: Callable[..., str]
) -> None:
    words = [
        "select",
        classes,
        "--particles",
        data_star,
        "--region",
        "CP",
        "--present",
        0.5,
        "-o",
        "out.star",
    ]
    record = classes / "occupy_set.json"
    good = json.loads(record.read_text())
    for bad in (
        "{",
        "[]",
        json.dumps(good | {"maps": [{"name": 1, "number": "x"}]}),
        json.dumps({"kind": 1}),
    ):
        record.write_text(bad)
        assert "occupy_set.json" in the_error(cli(*words))
    good["maps"].pop()
    record.write_text(json.dumps(good))
    assert "none of the maps" in the_error(cli(*words))


def test_cryodrgn_volumes_from_1_and_labels_from_0(cli: Cli, work: Path) -> None:
    folder = table_folder(work / "c", {"L17": [0.1, 0.9, 0.9]}, kind="cryodrgn", base=1)
    (work / "labels.pkl").write_bytes(pickle.dumps(np.array([0, 1, 2, 2, 0])))
    (work / "parent.pkl").write_bytes(pickle.dumps(np.array([3, 5, 8, 11, 12])))
    words = ["select", folder, "--particles", "labels.pkl", "--region", "L17", "--present", 0.5]
    assert cli(*words, "-o", "ind.pkl").code == 0
    assert pickle.loads(Path("ind.pkl").read_bytes()).tolist() == [1, 2, 3]
    assert cli(*words, "-o", "ind.pkl", "--parent-ind", "parent.pkl").code == 0
    assert pickle.loads(Path("ind.pkl").read_bytes()).tolist() == [5, 8, 11]


def test_cryosparc_particles(cli: Cli, work: Path) -> None:
    folder = table_folder(work / "c", {"L17": [0.1, 0.9]}, kind="cryosparc", base=0)
    content = np.zeros(4, [("uid", "<u8"), ("alignments3D/class", "<u4")])
    content["uid"], content["alignments3D/class"] = [9, 8, 7, 6], [0, 1, 1, 0]
    with (work / "particles.cs").open("wb") as out:
        np.save(out, content)
    words = ["--region", "L17", "--present", 0.5, "-o", "out.cs"]
    assert cli("select", folder, "--particles", "particles.cs", *words).code == 0
    with (work / "out.cs").open("rb") as stream:
        assert np.load(stream)["uid"].tolist() == [8, 7]


def truth_table(path: Path, columns: Sequence[str]) -> dict[str, list[float]]:
    with path.open() as stream:
        return {row["unit"]: [float(row[name]) for name in columns] for row in csv.DictReader(stream)}


def test_the_prediction_is_the_truth_where_the_table_is(
    cli: Cli, work: Path, shared_data: Callable[[str], Path]
) -> None:
    """With the true occupancy of the classes, the selection holds exactly what was predicted."""
    data = shared_data("relion_50s")
    columns = [f"class00{i}" for i in range(1, 5)]
    values = truth_table(data / "truth" / "job004_class_occupancy.csv", columns)
    folder = table_folder(work / "classes", values)
    star = data / "Class3D" / "job004" / "run_it025_data.star"
    words = ["--particles", star, "--region", "L18", "--present", 0.4, "-o", "out.star"]
    said = cli("select", folder, *words)
    assert said.code == 0, said.err
    record = json.loads((work / "out_selection.json").read_text())
    composition = true_composition(work / "out.star", data)
    assert len(composition) == len(values)
    for unit, found in composition.items():
        assert record["expected_occupancy"][unit]["selected"] == pytest.approx(found, abs=2e-4), unit


def true_composition(star: Path, data: Path) -> dict[str, float]:
    """Return the share of a selection's particles that truly have each unit."""
    states = ["mature", "noCP", "noST", "noB17", "early"]
    truth = read_star(data / "truth" / "particles_true.star")["particles"]
    state = dict(zip(truth.column("rlnImageName"), truth.column("rlnClassNumber"), strict=True))
    names = read_star(star)["particles"].column("rlnImageName")
    counts = np.bincount([int(state[name]) - 1 for name in names], minlength=5) / len(names)
    table = truth_table(data / "truth" / "state_composition.csv", states)
    return {unit: float(np.dot(row, counts)) for unit, row in table.items()}


def test_relion_takes_a_selection(
    cli: Cli, work: Path, shared_data: Callable[[str], Path], relion: Relion
) -> None:
    """From classes that are the true states: the particles with the central protuberance, reconstructed."""
    data = shared_data("relion_mini")
    (work / "particles.mrcs").symlink_to(data / "particles.mrcs")
    values = truth_table(data / "truth" / "truth_state_composition.csv", ["mature", "noCP", "early"])
    folder = table_folder(work / "classes", values)
    said = cli("select", folder, "--particles", data / "truth" / "particles_true.star", "--region", "L18",
               "--present", 0.7, "-o", "selected.star")  # fmt: skip
    assert said.code == 0, said.err
    count = json.loads((work / "selected_selection.json").read_text())["numbers"]["selected"]
    words = ["--i", "selected.star", "--o", "checked.star", "--select", "rlnDefocusU", "--minval", 1]
    relion("relion_star_handler", *words, cwd=work)
    checked = read_star(work / "checked.star")
    assert len(checked["particles"].rows) == count
    assert len(checked["optics"].rows) == 1
    relion(
        "relion_reconstruct",
        "--i",
        "selected.star",
        "--o",
        "new.mrc",
        "--ctf",
        "--pad",
        1,
        "--maxres",
        15,
        cwd=work,
    )
    new = read_map(work / "new.mrc").data
    states = [read_map(data / "truth" / f"state_{i}.mrc").data for i in (1, 2, 3)]
    fits = [float(np.corrcoef(new.ravel(), state.ravel())[0, 1]) for state in states]
    assert fits[0] == max(fits)
