"""`occupy classes`: a job folder in, maps, tables, scripts and a record out."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from occupy.io.mrc import read_map, write_map
from occupy.report.set_record import NAME, read_set_record
from occupy.volume import Volume

PARTS = [{"G": 1.0, "A": 0.0}, {"G": 0.0, "A": 1.0}, {"G": 0.4, "A": 1.0}]


@pytest.fixture
def maps(job) -> list[Path]:
    return sorted(job.glob("*class00?.mrc"))


def table(folder: Path) -> dict[tuple[str, str], float]:
    with (folder / "occupancy.csv").open() as stream:
        return {(r["region"], r["map"]): float(r["occupancy"]) for r in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def result(job, tmp_path_factory):
    """Return what a whole run wrote, with model and comparison, and what it said."""
    import contextlib
    import io

    from occupy.cli.main import _with_command, run

    folder = tmp_path_factory.mktemp("result") / "out"
    said = io.StringIO()
    words = ["classes", str(job), "-o", str(folder), "--model", str(job / "model.cif"), "--compare", "1", "2"]
    with contextlib.redirect_stdout(said):
        assert run(_with_command(words)) == 0
    return folder, said.getvalue()


def test_a_whole_job(result):
    folder, said = result
    assert "3 RELION classes of" in said
    assert "run_it025_class001, 50 %" in said.replace("50.0", "50")
    assert "parts come and go between the classes" in said
    assert f"chimerax {folder / 'classes.cxc'}" in said
    values = table(folder)
    for k, parts in enumerate(PARTS, start=1):
        for chain, true in parts.items():
            assert values[chain, f"run_it025_class{k:03d}"] == pytest.approx(true, abs=0.12)


def test_every_file_named_in_the_record_is_there(result):
    folder, _ = result
    record = read_set_record(folder)
    assert record == read_set_record(folder / NAME)
    assert record["what"] == "set"
    assert [m["name"] for m in record["maps"]] == [f"run_it025_class{k:03d}" for k in (1, 2, 3)]
    assert sum(m["share"] for m in record["maps"]) == pytest.approx(1, abs=1e-5)
    named = [name for m in record["maps"] for name in m["outputs"].values()]
    for value in record["outputs"].values():
        named += (
            [value] if isinstance(value, str) else list(value.values()) if isinstance(value, dict) else value
        )
    for name in named:
        assert (folder / name).is_file(), name
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert not [name for name in written if name.endswith(".part")]
    assert {
        "composite.mrc",
        "mean_occupancy.mrc",
        "variability.mrc",
        "classes.cxc",
        "occupancy.tsv",
    } <= written


def test_maps_lie_on_the_grid_of_the_input(result, maps):
    folder, _ = result
    given = read_map(maps[0])
    for product in ("relative", "occupancy", "uncertainty"):
        made = read_map(folder / f"{maps[0].stem}_{product}.mrc")
        assert made.same_grid(given)
        assert 0 <= float(made.data.min()) <= float(made.data.max()) <= 1


def test_the_difference_of_two_classes_by_number_or_name(cli, job, result, work):
    scripts = [p.name for p in result[0].glob("*.cxc")]
    assert len(scripts) == 3, scripts
    said = cli(
        "classes", job, "-o", "o", "--quiet", "--compare", "run_it025_class001", "3", "--no-components"
    )
    assert (said.code, said.out, said.err) == (0, "", "")
    assert json.loads((work / "o" / NAME).read_text())["options"]["compare"] == [
        "run_it025_class001",
        "run_it025_class003",
    ]
    assert not (work / "o" / "components").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--compare", "1", "9"], "--compare 9: no such class"),
        (["--by", "residue"], "need a --model"),
        (["--lowpass", "3"], "finer than two voxels"),
        (["--model", "none.cif"], "none.cif"),
    ],
)
def test_bad_options(cli, job, work, the_error, words, text):
    said = cli("classes", job, "-o", "o", "--quiet", *words)
    assert text in the_error(said)
    assert not (work / "o").exists()


def test_bad_input(cli, maps, work, the_error):
    for words, text in (
        (["nowhere"], "no such file or folder"),
        ([maps[0]], ""),
    ):
        assert text in the_error(cli("classes", *words, "--quiet"))
    (work / "cut.mrc").write_bytes(maps[0].read_bytes()[:50000])
    assert "cut.mrc" in the_error(cli("classes", maps[0], "cut.mrc", "--quiet"))
    assert [p.name for p in work.iterdir()] == ["cut.mrc"]


def test_other_grids_are_an_error_or_resampled(cli, maps, work, the_error):
    from occupy.ensemble.members import resampled

    other = read_map(maps[1])
    finer = Volume.from_array(np.zeros((54,) * 3, dtype=np.float32), 48 * 4.0 / 54)
    write_map(work / "finer.mrc", resampled(other, finer))
    inputs = [maps[0], work / "finer.mrc", maps[2]]
    assert "--resample" in the_error(cli("classes", *inputs, "-o", "o", "--quiet"))
    assert not (work / "o").exists()
    assert cli("classes", *inputs, "-o", "o", "--quiet", "--resample", "--no-components").code == 0
    assert read_map(work / "o" / "finer_occupancy.mrc").same_grid(read_map(maps[0]))
    assert cli("classes", *maps, "-o", "p", "--quiet", "--no-components").code == 0
    one = read_map(work / "o" / "finer_occupancy.mrc").data
    same = read_map(work / "p" / f"{maps[1].stem}_occupancy.mrc").data
    assert np.abs(one - same)[same > 0.5].mean() < 0.05


def test_classes_of_a_handful_of_particles_are_left_out_and_named(cli, job, work):
    folder = work / "job"
    folder.mkdir()
    for path in job.glob("run_it025_*"):
        text = path.read_bytes()
        if path.suffix == ".star":
            text = text.replace(b" 0.200000 ", b" 0.000100 ")
            assert b" 0.000100 " in text
        (folder / path.name).write_bytes(text)
    said = cli("classes", folder, "-o", "o", "--no-components")
    assert said.code == 0
    assert "too few particles: run_it025_class003" in said.err
    assert not list((work / "o").glob("*class003*"))


def test_an_empty_class_is_named(cli, maps, work):
    empty = read_map(maps[0])
    write_map(work / "empty.mrc", empty.with_data(np.zeros_like(empty.data)))
    said = cli("classes", *maps, "empty.mrc", "-o", "o", "--no-components")
    assert said.code == 0
    assert "nothing is in it: empty" in said.err
    assert not list((work / "o").glob("empty*"))


def test_a_shifted_class_is_warned_about(cli, maps, work):
    moved = read_map(maps[1])
    write_map(work / "moved.mrc", moved.with_data(np.roll(moved.data, 3, axis=0)))
    said = cli("classes", maps[0], "moved.mrc", maps[2], "-o", "o", "--no-components")
    assert said.code == 0
    assert "moved lies " in said.err
    assert any(n["code"] == "misaligned" for n in read_set_record(work / "o")["notices"])


def test_a_second_run_replaces_the_first(cli, job, work):
    assert cli("classes", job, "-o", "o", "--quiet").code == 0
    before = sorted(p.name for p in (work / "o" / "components").iterdir())
    assert before
    assert cli("classes", job, "-o", "o", "--quiet", "--no-components").code == 0
    assert not list((work / "o" / "components").glob("*.mrc"))
    assert read_set_record(work / "o")["components"] == []


@pytest.mark.parametrize(
    ("name", "most", "most_partial", "least_r"), [("job004", 0.06, 0.08, 0.95), ("job001", 0.10, 0.10, 0.85)]
)
def test_agreement_with_the_truth_of_relion_classes(shared_data, name, most, most_partial, least_r):
    from benchmarks.set_cases import relion_set
    from benchmarks.sets import run_set

    row = run_set(relion_set(shared_data("relion_50s"), name), None, Path())
    assert row.numbers["mae"] <= most
    assert row.numbers["mae_partial"] <= most_partial
    assert row.numbers["r"] >= least_r
    assert row.components >= 1


LAYOUTS = {
    "RECOVAR": "analysis_10/kmeans/center{:03d}.mrc",
    "cryoSTAR": "density_10073/0004_0014470/vol_pca_1_{:03d}.mrc",
    "3D Variability": "J25/J25_series_000/J25_series_000_frame_{:03d}.mrc",
    "3D Flex": "J504/J504_series_000/J504_series_000_frame_{:03d}.mrc",
}


@pytest.mark.parametrize("program", LAYOUTS)
def test_volumes_of_other_programs_from_their_folder_to_the_table(cli, job, maps, work, program):
    folder = work / LAYOUTS[program].partition("/")[0]
    for number, path in enumerate(maps):
        target = work / LAYOUTS[program].format(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    if program == "RECOVAR":
        (folder / "data").mkdir()
        labels = {"labels": np.repeat([0, 1, 2], [500, 300, 200]), "centers": np.zeros((3, 10))}
        (folder / "data" / "kmeans_result.pkl").write_bytes(pickle.dumps(labels))
    assert (
        cli(
            "classes", folder, "--model", job / "model.cif", "--by-reading", "--no-components", "-o", "out"
        ).code
        == 0
    )
    record = read_set_record(work / "out")
    shares = [entry["share"] for entry in record["maps"]]
    assert shares == pytest.approx([0.5, 0.3, 0.2] if program == "RECOVAR" else [1 / 3] * 3, abs=1e-4)
    values = table(work / "out")
    for chain in "GA":
        read = [values[chain, entry["name"]] for entry in record["maps"]]
        assert np.argsort(read)[-1] in np.flatnonzero([part[chain] == 1 for part in PARTS])
        assert np.argmin(read) == np.argmin([part[chain] for part in PARTS])
