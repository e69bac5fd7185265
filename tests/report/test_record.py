"""The record of a run: enough to repeat it, strict JSON, every number with its meaning."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest

import occupy
from occupy.errors import InputError
from occupy.io.mrc import read_map, write_map
from occupy.pipeline import estimate
from occupy.report.record import (
    FORMAT,
    fit_text,
    log_text,
    number_lines,
    output_file,
    read_record,
    record_of,
    sha256_of,
    to_json,
)
from occupy.report.results import write_results
from occupy.resolve import ResolvedSettings
from occupy.settings import Output, Settings
from occupy.volume import Frame, Volume

SIDE = 36


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return the file of a small anisotropic map with permuted axes."""
    rng = np.random.default_rng(4)
    z, y, x = np.ogrid[:SIDE, :SIDE, :SIDE]
    ball = (z - 17) ** 2 + (y - 18) ** 2 + (x - 19) ** 2 < 9**2
    data = ball * (1 + 0.3 * rng.standard_normal((SIDE,) * 3)) + 0.05 * rng.standard_normal((SIDE,) * 3)
    frame = Frame(
        axes=(3, 1, 2), cell=(SIDE * 2.1, SIDE * 2.2, SIDE * 2.0), sampling=(SIDE,) * 3, nstart=(4, -5, 6)
    )
    path = tmp_path_factory.mktemp("record") / "small.mrc"
    write_map(path, Volume(data.astype(np.float32), (2.2, 2.1, 2.0), frame, "small"))
    return path


def run(source: Path, folder: Path, settings: Settings, command=None, voxel_size=None, **options):
    volume = read_map(source)
    est = estimate(volume, settings)
    inputs = {"map": (volume, source)}
    more = {"inputs": inputs, "command": command, "voxel_size": voxel_size}
    return est, write_results(est, settings, folder, Output(**options), **more)


def strict(text: str):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


SETTINGS = {
    "plain": Settings(),
    "published": Settings(mode="resolution", estimator="nlf", tile_size=7, kernel_size=5, tau=0.9),
    "much": Settings(
        lowpass=9.5, tile_size="20A", recalibrate=True, hedge=2, max_box=32, amplify=3, attenuate=2.5,
        sigmoid=4, pivot=0.3, seed=11, scale_limit=0.1, threads=2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_record_is_enough_to_repeat_the_run(source, tmp_path, name):
    _, written = run(source, tmp_path / "first", SETTINGS[name])
    record = strict((tmp_path / "first" / "small_occupy.json").read_text(encoding="utf-8"))
    asked = Settings(**record["settings_asked"])
    assert asked == SETTINGS[name]
    path = Path(record["inputs"]["map"]["path"])
    assert record["inputs"]["map"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    again = occupy.estimate(occupy.read_map(path), asked)
    assert np.array_equal(again.scale, read_map(tmp_path / "first" / record["outputs"]["scale"]).data)
    _, other = run(path, tmp_path / "second", asked)
    for product, file in record["outputs"].items():
        if file.endswith(".mrc"):
            one, two = (read_map(tmp_path / f / file) for f in ("first", "second"))
            assert np.array_equal(one.data, two.data), product
            assert one.frame == two.frame
    same = ("settings", "settings_asked", "options", "numbers", "notices", "inputs", "outputs")
    assert {key: written.record[key] for key in same} == {key: other.record[key] for key in same}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_there_as_it_held(source, tmp_path, name):
    est, written = run(source, tmp_path, SETTINGS[name])
    record = read_record(tmp_path / "small_occupy.json")
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in record["settings"].items()}
    assert ResolvedSettings(**plain) == est.settings
    undecided = {"amplify", "attenuate", "sigmoid", "lowpass_output", "fdr"}
    assert {k for k, v in record["settings"].items() if v is None} <= undecided
    assert record["settings_asked"].keys() == {f.name for f in fields(Settings)}
    assert record == strict(to_json(written.record))


def test_the_numbers_are_those_of_the_maps(source, tmp_path):
    est, _ = run(source, tmp_path, Settings(estimator="local"), intermediate=True)
    numbers = read_record(tmp_path / "small_occupy.json")["numbers"]
    low, scale = (read_map(tmp_path / f"small_{name}.mrc").data for name in ("lowpass", "scale"))
    full = numbers["full_scale_value"]
    mean = low[scale >= 1].mean(dtype=np.float64)
    assert numbers["variability_limit"] == pytest.approx(mean / full, rel=1e-6)
    assert numbers["variability_limit"] == pytest.approx(est.variability_limit, rel=1e-12)
    data = read_map(source).data
    assert numbers["map_range"] == [float(data.min()), float(data.max())]
    assert numbers["equal_voxels_share"] < 0.001
    assert numbers["lowest_confident_scale"] == pytest.approx(numbers["lowest_confident_value"] / full)


@pytest.mark.parametrize("which", ["full_scale_tile", "smallest_tile"])
def test_a_tile_is_where_the_record_says(source, tmp_path, which):
    """Cut it out of the map by the record alone: its quantile is the value given."""
    run(source, tmp_path, Settings(tile_size=8), intermediate=True)
    record = read_record(tmp_path / "small_occupy.json")
    tile, low = record["numbers"][which], read_map(tmp_path / "small_lowpass.mrc")
    centre, side = np.array(tile["centre_index_section_row_column"]), np.array(tile["side_voxels"])
    start = np.rint(centre - (side - 1) / 2).astype(int)
    cut = low.data[tuple(slice(a, a + n) for a, n in zip(start, side, strict=True))]
    rank = math.floor(record["settings"]["tau"] * cut.size)
    assert np.sort(cut, axis=None)[rank] == np.float32(tile["value"])
    np.testing.assert_allclose(tile["centre_angstrom_xyz"], low.position(centre), atol=2e-3)
    assert tile["side_angstrom"] == pytest.approx([17.6, 16.8, 16.0], abs=1e-3)
    if which == "full_scale_tile":
        assert tile["value"] == record["numbers"]["full_scale_value"]


def test_the_input_is_described_as_in_its_header(source, tmp_path):
    run(source, tmp_path, Settings())
    about = read_record(tmp_path / "small_occupy.json")["inputs"]["map"]
    assert about["path"] == str(source)
    assert about["bytes"] == source.stat().st_size
    assert about["columns_rows_sections"] == [SIDE] * 3
    # Columns run along z, rows along x, sections along y.
    assert about["axes"] == [3, 1, 2]
    assert about["voxel_size_angstrom_columns_rows_sections"] == pytest.approx([2.0, 2.1, 2.2], rel=1e-6)
    assert about["nstart"] == [4, -5, 6]


def test_a_rough_fit_of_the_solvent_is_said() -> None:
    assert fit_text({"misfit": 0.03, "good_fit": True}) == "misfit 3%"
    assert "not quite a Gaussian" in fit_text({"misfit": 0.16, "good_fit": True})
    assert fit_text({"misfit": float("nan"), "good_fit": False}) == "no fit"


def test_the_options_are_there(source, tmp_path):
    options = {
        "intermediate": True,
        "plot": False,
        "report": False,
        "level": 0.4,
        "minimum_scale": 0.1,
        "voxel_size": 1.7,
    }
    run(source, tmp_path, Settings(), command=["occupy", "x"], **options)
    record = read_record(tmp_path / "small_occupy.json")
    assert record["options"] == options
    assert record["command"] == ["occupy", "x"]
    assert record["version"] == occupy.__version__


def test_what_json_cannot_say_becomes_null_or_the_name_of_an_infinite_setting(source):
    volume = read_map(source)
    est = estimate(volume)
    record = record_of(
        est, Settings(amplify=math.inf), inputs={"map": (volume, source)}, outputs={},
        variability_limit=math.nan,
    )  # fmt: skip
    found = strict(to_json(record))
    assert found["numbers"]["variability_limit"] is None
    assert found["settings_asked"]["amplify"] == "inf"
    assert any(line.split() == ["variability", "limit", "–"] for line in number_lines(record["numbers"]))
    assert "(from Python)" in log_text(record)


def test_checksums_are_those_of_sha256sum(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a readable record"),
        ("[1, 2]", "not a record of this program"),
        ('{"program": "other"}', "not a record of this program"),
        ('{"program": "occupy", "format": 1}', "incomplete"),
        ('{"program": "occupy"}', "incomplete"),
    ],
)
def test_what_is_no_record(tmp_path, text, reason):
    path = tmp_path / "x_occupy.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=reason) as caught:
        read_record(path)
    assert str(path) in str(caught.value)


def test_a_record_that_is_missing_or_binary(tmp_path):
    with pytest.raises(InputError, match="not a readable record"):
        read_record(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a readable record"):
        read_record(tmp_path / "b.json")


def test_a_record_of_a_newer_program(source, tmp_path):
    run(source, tmp_path, Settings())
    path = tmp_path / "small_occupy.json"
    record = read_record(path)
    path.write_text(to_json(record | {"format": FORMAT + 1, "version": "9.9"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"newer version \(9.9\)"):
        read_record(path)


def test_where_an_output_is(tmp_path):
    path, record = tmp_path / "x_occupy.json", {"outputs": {"scale": "x_scale.mrc"}}
    assert output_file(path, record, "scale") == tmp_path / "x_scale.mrc"
    with pytest.raises(InputError, match="names no confidence map"):
        output_file(path, record, "confidence")


def test_the_log_says_it_for_people(source, tmp_path):
    est, written = run(source, tmp_path, Settings(amplify=3), command=["occupy", "small.mrc"])
    text = (tmp_path / "small_occupy.log").read_text(encoding="utf-8")
    assert text == log_text(written.record)
    assert "command  occupy small.mrc" in text
    assert sha256_of(source)[:16] in text
    for name, value in asdict(est.settings).items():
        assert f"  {name:<18} {value}\n" in text
    assert "No notices" in text
