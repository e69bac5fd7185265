"""`occupy particles` on 900 simulated particles of known composition."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from occupy.cli.main import run
from occupy.io.star import read_star

Capture = pytest.CaptureFixture[str]
PARTS = {
    "CP": ["5S", "L5", "L18", "L25", "L27", "R4D", "R4G", "R4H", "R4J", "R4F"],
    "ST": ["L11", "R2P", "R2Q"],
    "B28": ["L9", "L28", "L33", "R1S", "R4E", "R4I"],
}
TRUTH = {"CP": 0.40, "ST": 0.75, "B28": 0.75}


@pytest.fixture(scope="module")
def result(shared_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    data, folder = shared_data("relion_mini"), tmp_path_factory.mktemp("particles")
    parts = folder / "parts.yaml"
    parts.write_text("".join(f"{name}: [{', '.join(chains)}]\n" for name, chains in PARTS.items()))
    words = ["particles", data / "particles.star", "--model", data / "model.cif", "--regions", parts]
    words += ["--map", data / "consensus.mrc", "-o"]
    assert run([str(word) for word in [*words, folder / "out", "--threads", "2", "--quiet"]]) == 0
    return data, folder / "out"


def test_occupancies_and_states_are_the_truth(result: tuple[Path, Path]) -> None:
    with (result[1] / "parts.tsv").open() as stream:
        rows = {row["part"]: row for row in csv.DictReader(stream, delimiter="\t")}
    for name, truth in TRUTH.items():
        assert float(rows[name]["occupancy"]) == pytest.approx(truth, abs=0.03)
        assert float(rows[name]["low_95"]) <= truth <= float(rows[name]["high_95"])
        assert rows[name]["varies"] == "yes"
    assert rows["rest"]["varies"] == "no"
    states = json.loads((result[1] / "particles.json").read_text())["numbers"]["states"]
    found = {tuple(each["parts"]): each["population"] for each in states}
    expected = {("CP", "ST", "B28", "rest"): 0.40, ("ST", "B28", "rest"): 0.35, ("rest",): 0.25}
    assert found == pytest.approx(expected, abs=0.03)


def test_images_and_map_agree(result: tuple[Path, Path]) -> None:
    with (result[1] / "images_and_map.tsv").open() as stream:
        rows = {row["part"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert set(rows) == set(TRUTH)
    for row in rows.values():
        error = (float(row["images_error"]) ** 2 + float(row["map_error"]) ** 2) ** 0.5
        away = (float(row["images"]) - float(row["map"])) / error
        assert float(row["difference_in_standard_errors"]) == pytest.approx(away, abs=0.02)
        assert abs(away) < 3
        assert row["why"] == "agree"
    page = (result[1] / "report.html").read_text()
    assert "Images and map" in page
    assert "of the particles CP is bound, and never without ST and B28." in page
    # What finished pieces were kept in is gone with the run.
    assert not list(result[1].glob(".*"))


def test_particles_carry_their_state(result: tuple[Path, Path]) -> None:
    found = read_star(result[1] / "particles_states.star")["particles"]
    true = read_star(result[0] / "truth" / "particles_true.star")["particles"].column("rlnClassNumber")
    pairs = list(zip(found.column("rlnClassNumber"), true, strict=True))
    assert sum(one == other for one, other in pairs) > 0.9 * len(pairs)
    assert (result[1] / "report.html").read_text().count("<img") == 4


def test_select_by_presence(
    result: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = result
    words = [
        "select",
        out,
        "--particles",
        data / "particles.star",
        "-o",
        tmp_path / "a.star",
        "--not-part",
        "CP",
    ]
    assert run([str(word) for word in [*words, "--part", "ST"]]) == 0
    assert 250 < len(read_star(tmp_path / "a.star")["particles"].rows) < 330
    assert run([str(word) for word in [*words, "--part", "nothing"]]) == 1
    assert "no part 'nothing'" in capsys.readouterr().err


def test_bad_input_is_one_line(
    result: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = result[0]
    star = str(data / "particles.star")
    assert run(["particles", star, "-o", str(tmp_path / "x")]) == 1
    assert "no regions" in capsys.readouterr().err
    assert run(["particles", star, "--masks", str(data / "consensus.mrc"), "-o", str(tmp_path / "x")]) == 1
    assert "--map" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
