"""Runs of every kind are read, brought together and compared by the command line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from occupy.cli.main import run
from occupy.errors import InputError
from occupy.io.particles import read_particles
from occupy.io.runs import CommonParticles, Run, _run_names
from occupy.io.star import read_star
from occupy.runs.agreement import Partition
from occupy.runs.compare import Consensus
from run_files import write_star

Make = Callable[..., Any]
Capture = pytest.CaptureFixture[str]
THREE = (0.5, 0.3, 0.2)


def write_table(path: Path, one: Partition) -> Path:
    rows = [f"{i + 1}\t{one.classes[k]}" for i, k in enumerate(one.labels)]
    path.write_text("\n".join(["particle\tclass", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, make_runs: Make) -> tuple[Path, list[Partition]]:
    folder = tmp_path_factory.mktemp("compared")
    _, runs = make_runs(THREE, 3.5, 0.2)
    jobs = [
        write_star(folder / f"Class3D/job00{i}/run_it025_data.star", one, optics=i < 2).parent
        for i, one in enumerate(runs)
    ]
    assert run(["compare-runs", *map(str, jobs), "-o", str(folder / "out"), "--quiet"]) == 0
    return folder / "out", runs


def test_everything_is_written_and_recorded(compared: tuple[Path, list[Partition]]) -> None:
    out = compared[0]
    about = json.loads((out / "runs.json").read_text())
    assert about["numbers"]["reproducible_classes"] == 3
    assert about["numbers"]["p_value"] < 0.01
    assert [pair["run"] for pair in about["numbers"]["pairs"]] == ["job000", "job000", "job001"]
    for name in about["outputs"].values():
        assert (out / name).stat().st_size > 0
    assert {path.name for path in out.iterdir()} == set(about["outputs"].values())
    assert "3 classes are reproducible" in (out / "report.html").read_text()


def test_particles_of_a_class_are_those_that_are_sure(compared: tuple[Path, list[Partition]]) -> None:
    out = compared[0]
    rows = [line.split("\t") for line in (out / "particles.tsv").read_text().splitlines()]
    assert rows[0] == ["particle", "class", "probability", "settled", "job000", "job001", "job002"]
    for k in (1, 2, 3):
        table = read_star(out / f"class_{k}.star")
        chance = {row[0]: float(row[2]) for row in rows[1:] if row[1] == str(k)}
        written = set(table["particles"].column("rlnImageName"))
        # Four digits stand in the table: what it has at 0.9000 may be on either side.
        assert {name for name, value in chance.items() if value > 0.9} <= written
        assert written <= {name for name, value in chance.items() if value >= 0.9}
        assert table["optics"].rows


def test_the_verdict_is_in_words(make_runs: Make, tmp_path: Path, capsys: Capture) -> None:
    paths = [
        str(write_table(tmp_path / f"{one.name[-1]}.tsv", one))
        for one in make_runs(THREE, 3.5, 0.1, classes=4, free=100)[1]
    ]
    assert run(["compare-runs", *paths, "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "3 classes are reproducible; 1 more of the 4 of a run is not" in said.out
    assert "K = 3 is enough" in said.out
    assert "not all runs state probabilities" in said.err
    noise = [str(write_table(tmp_path / f"n{one.name[-1]}.tsv", one)) for one in
             make_runs([1.0], 0, 0.2, classes=3, free=100)[1]]  # fmt: skip
    assert run(["compare-runs", *noise, "-o", str(tmp_path / "out")]) == 0
    assert "no classes are reproducible" in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("class_*"))


def test_particles_are_matched_by_name_whatever_the_order(make_runs: Make, tmp_path: Path) -> None:
    _, (one, other, _) = make_runs(THREE, 3.5, 0.2)
    names = [f"{i + 1:06d}@stack.mrcs" for i in range(3000)]
    order = np.random.default_rng(0).permutation(3000)[:2900]
    assert other.certainty is not None
    moved = Partition(other.name, other.classes, other.labels[order], other.certainty[order])
    paths = [
        write_star(tmp_path / "a_it001_data.star", one, names),
        write_star(tmp_path / "b_it001_data.star", moved, [names[i] for i in order]),
    ]
    found = CommonParticles.of([Run.read(path) for path in paths])
    kept = np.sort(order)
    assert (found.rows[0] == kept).all()
    assert (found.runs[0].labels == one.labels[kept]).all()
    assert (found.runs[1].labels == other.labels[kept]).all()
    assert [notice.code for notice in found.notices] == ["particles-left-out"]


def test_symmetry_expanded_entries_are_one_particle(make_runs: Make, tmp_path: Path) -> None:
    _, (one, other, _) = make_runs(THREE, 3.5, 0.2)
    names = [f"{i // 6 + 1:06d}@stack.mrcs" for i in range(3000)]
    paths = [write_star(tmp_path / f"{i}_it001_data.star", r, names) for i, r in enumerate((one, other))]
    found = CommonParticles.of([Run.read(path) for path in paths])
    assert found.entries.count == 500
    assert found.entries.expanded
    assert len(found.runs[0].labels) == 3000
    assert [notice.code for notice in found.notices] == ["expanded"]


def test_symmetry_expanded_cryosparc(make_runs: Make, tmp_path: Path) -> None:
    _, (one, other, _) = make_runs(THREE, 3.5, 0.2)
    kind = [("uid", "<u8"), ("sym_expand/src_uid", "<u8"), ("alignments3D_multi/class", "<u4"),
            ("alignments3D_multi/class_posterior", "<f4")]  # fmt: skip
    jobs = []
    for i, each in enumerate((one, other)):
        content = np.zeros(3000, dtype=kind)
        content["uid"], content["sym_expand/src_uid"] = np.arange(3000) + 10**15, np.arange(3000) // 4
        content["alignments3D_multi/class"] = each.labels
        content["alignments3D_multi/class_posterior"] = each.certainty
        order = np.random.default_rng(i).permutation(3000)
        folder = tmp_path / f"J{i + 7}"
        folder.mkdir()
        for name in ("passthrough_particles", "00004_particles", "00012_particles"):
            with (folder / f"cryosparc_P1_J{i + 7}_{name}.cs").open("wb") as stream:
                np.save(stream, content[order])
        jobs.append(folder)
    read = [Run.read(job) for job in jobs]
    assert [each.path.name for each in read] == [f"cryosparc_P1_J{i}_00012_particles.cs" for i in (7, 8)]
    found = CommonParticles.of(read)
    assert found.entries.count == 750
    order = np.random.default_rng(0).permutation(3000)
    assert (found.runs[0].labels == one.labels[order]).all()
    assert (found.runs[1].labels == other.labels[order]).all()
    assert run(["compare-runs", *map(str, jobs), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    kept = read_particles(tmp_path / "out" / "class_1.cs")
    assert 0 < len(kept.labels) < 3000


def test_labels_of_cryodrgn_and_tables_go_together_by_order(make_runs: Make, tmp_path: Path) -> None:
    _, runs = make_runs(THREE, 3.5, 0.2)
    folder = tmp_path / "analyze.20" / "kmeans3"
    folder.mkdir(parents=True)
    (folder / "labels.pkl").write_bytes(pickle.dumps(runs[0].labels.astype(np.int32)))
    text = tmp_path / "labels.txt"
    text.write_text("\n".join(map(str, runs[1].labels)))
    star = write_star(tmp_path / "x_it003_data.star", runs[2])
    read = [Run.read(path) for path in (folder.parent, text, star)]
    found = CommonParticles.of(read)
    assert [notice.code for notice in found.notices] == ["by-order"]
    assert [(a.labels == b.labels).all() for a, b in zip(found.runs, runs, strict=True)] == [True] * 3
    assert found.runs[0].certainty is None


def test_the_last_complete_iteration_is_taken(make_runs: Make, tmp_path: Path) -> None:
    one = make_runs(THREE, 3.5, 0.2)[1][0]
    for number in (0, 9, 10, 11):
        write_star(tmp_path / f"run_it{number:03d}_data.star", one)
    assert Run.read(tmp_path).path.name == "run_it011_data.star"
    for number in (9, 10):
        (tmp_path / f"run_it{number:03d}_model.star").write_text("")
        (tmp_path / f"run_it{number:03d}_sampling.star").write_text("")
    assert Run.read(tmp_path).path.name == "run_it010_data.star"


def test_names_of_runs_tell_them_apart() -> None:
    paths = ["p/Class3D/job004/run_it025_data.star", "q/Class3D/job004/run_it025_data.star", "a/labels.txt"]
    assert _run_names([Path(path) for path in paths[1:]]) == ["job004", "a"]
    assert _run_names([Path(path) for path in paths[:2]]) == ["p/Class3D/job004", "q/Class3D/job004"]
    twice = _run_names([Path("x.tsv"), Path("x.tsv")])
    assert twice[0].endswith("x.tsv")
    assert twice[1] == f"{twice[0]} (2)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\tb\n1\t2\n", "with 'particle' and 'class'"),
        ("particle\tclass\n1\t2\t3\n", "line 2 has 3 cells, not 2"),
        ("particle\tclass\n1\tx\n", "is no number"),
        ("", "with 'particle' and 'class'"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        Run.read(path)


def test_bad_input_is_one_line(make_runs: Make, tmp_path: Path, capsys: Capture) -> None:
    runs = make_runs(THREE, 3.5, 0.2)[1]
    paths = [str(write_table(tmp_path / f"{i}.tsv", each)) for i, each in enumerate(runs)]
    star = write_star(tmp_path / "y_it001_data.star", runs[0], [f"{i}@other.mrcs" for i in range(3000)])
    names = [f"{i}@third.mrcs" for i in range(3000)]
    other = write_star(tmp_path / "z_it001_data.star", runs[1], names)
    empty = tmp_path / "empty"
    empty.mkdir()
    out = ["-o", str(tmp_path / "out")]
    for words, said in (
        ([paths[0]], "one run has nothing to be compared with"),
        ([paths[0], str(tmp_path / "nothing")], "no such file or folder"),
        ([paths[0], str(empty)], "no run of a classification in it"),
        ([str(star), str(other)], "not one particle is in all runs"),
        ([*paths, "--homogeneous", paths[0]], "give two runs or more"),
        ([*paths, "--occupancies", str(empty)], "1 results of occupy classes for 3 runs"),
        ([*paths, "--particles", str(empty)], "presence.tsv"),
    ):
        assert run(["compare-runs", *words, *out]) == 1, words
        error = capsys.readouterr().err
        assert said in error, error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_presence_of_parts_judges_the_classes(make_runs: Make, tmp_path: Path, capsys: Capture) -> None:
    # Three states, of which two have the same parts: a class that differs in nothing is a copy.
    true, runs = make_runs(THREE, 5.0, 0.1)
    paths = [str(write_table(tmp_path / f"{i}.tsv", each)) for i, each in enumerate(runs)]
    has = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])[true]
    chance = np.where(has > 0, 0.97, 0.03)
    lines = [
        f"{i + 1}\t{s + 1}\t0.9\t{a:.3f}\t{b:.3f}"
        for i, (s, (a, b)) in enumerate(zip(true, chance, strict=True))
    ]
    folder = tmp_path / "particles"
    folder.mkdir()
    head = "particle\tstate\tstate_probability\tcore\tCP"
    (folder / "presence.tsv").write_text("\n".join([head, *lines]) + "\n")
    words = ["compare-runs", *paths, "--particles", str(folder), "-o", str(tmp_path / "out")]
    assert run(words) == 0
    assert "class 2 and class 3 are copies" in capsys.readouterr().out
    rows = (tmp_path / "out" / "differences.tsv").read_text().splitlines()
    assert [row.split("\t")[-1] for row in rows[1:]] == ["no", "no", "yes"]
    assert rows[1].split("\t")[2] == "CP"
    assert run(["compare-runs", *paths, str(folder), "-o", str(tmp_path / "out"), "--quiet"]) == 0


def write_job_files(data: Path, zero_mask: int, diameter: float) -> None:
    stem = data.name.removesuffix("data.star")
    optimiser = f"_rlnParticleDiameter {diameter}\n_rlnWidthMaskEdge 5\n_rlnDoZeroMask {zero_mask}\n"
    model = "_rlnPixelSize 2.0\n_rlnOriginalImageSize 100\n"
    for kind, rows in (("optimiser", optimiser), ("model", model)):
        data.with_name(f"{stem}{kind}.star").write_text(f"data_{kind}_general\n\n{rows}")


def test_odds_of_images_masked_with_zeros_are_tempered(tmp_path: Path, make_runs: Make) -> None:
    _, runs = make_runs(THREE, 3.0, 0.1)
    path = write_star(tmp_path / "run_it025_data.star", runs[0])
    assert Run.read(path).overstated is None
    # A circle of 30 pixels' radius, and an edge of 5: its square has about the area of a radius of 31.9.
    write_job_files(path, 1, 120)
    assert Run.read(path).overstated == pytest.approx(1e4 / (np.pi * 31.9**2), rel=0.01)
    write_job_files(path, 0, 120)
    assert Run.read(path).overstated == 1
    write_job_files(path, 1, 500)  # all of the image is in the circle
    assert Run.read(path).overstated == 1
    stated = []
    for mask in (0, 1):
        write_job_files(path, mask, 120)
        common = CommonParticles.of([Run.read(path), Run.read(path)])
        assert {one.overstated for one in common.runs} == {Run.read(path).overstated}
        stated.append(Consensus.of(common.runs).probability)
    some = (stated[0] > 0.6) & (stated[0] < 0.9)
    assert (stated[1][some] < stated[0][some] - 0.05).all()
