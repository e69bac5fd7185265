"""Many maps in one run; skipping what is done."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from occupy.cli.estimate import output_folders
from occupy.errors import InputError
from occupy.io.mrc import write_map


@pytest.fixture
def three(blob, work):
    """Return three maps, of which two have the same name."""
    paths = [work / "a" / "map.mrc", work / "b" / "map.mrc", work / "c" / "other.mrc"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(blob.read_bytes())
    return paths


def test_every_map_gets_its_own_folder(cli, three, work, result):
    assert cli(*three, "--quiet").code == 0
    for name, stem in (("a_map", "map"), ("b_map", "map"), ("other", "other")):
        got = result(work / f"occupy_{name}", stem)
        assert got.record["inputs"]["map"]["path"] == str(three[["a_map", "b_map", "other"].index(name)])
        assert got.names >= {f"{stem}_scale.mrc", f"{stem}_confidence.mrc", f"{stem}.cxc"}


def test_within_the_folder_given(cli, three, work):
    assert cli(*three, "-o", "out", "--quiet").code == 0
    assert {p.name for p in (work / "out").iterdir()} == {"a_map", "b_map", "other"}
    assert not list(work.glob("occupy_*"))


def test_one_bad_map_does_not_stop_the_others(cli, three, work, blob):
    three[0].write_bytes(b"nonsense" * 1000)
    said = cli(*three, "missing.mrc")
    assert said.code == 1
    assert sorted(p.name for p in work.glob("occupy_*")) == ["occupy_b_map", "occupy_other"]
    lines = said.err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"occupy: error: {three[0]}: not an MRC/CCP4 map")
    assert lines[1] == "occupy: error: missing.mrc: no such file"
    assert lines[2] == f"occupy: error: 2 of 4 maps failed: {three[0]}, missing.mrc"
    assert said.out.count("lowest confident scale") == 2
    # Failures are said even in quiet runs.
    assert cli(*three, "missing.mrc", "--quiet").err == said.err


def test_too_little_memory_for_one_map(cli, three, work, monkeypatch):
    from occupy.pipeline import lowpass_onto

    calls = []

    def scarce(*given, **options):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return lowpass_onto(*given, **options)

    monkeypatch.setattr("occupy.pipeline.lowpass_onto", scarce)
    said = cli(*three, "--quiet")
    assert said.code == 1
    assert f"{three[1]}: not enough memory" in said.err
    assert sorted(p.name for p in work.glob("occupy_*")) == ["occupy_a_map", "occupy_other"]


def test_warnings_say_which_map_they_are_about(cli, blob, masked, work):
    said = cli(blob, masked)
    assert said.code == 0
    (line,) = said.err.splitlines()
    assert line.startswith("occupy: warning: masked.mrc: ")


def test_no_two_maps_share_a_folder(cli, the_error, blob, work):
    for name in ("x.mrc", "x.map"):
        (work / name).write_bytes(blob.read_bytes())
    assert "work_x" in the_error(cli("x.mrc", "x.map"))
    assert "run them one by one" in the_error(cli("x.mrc", "x.mrc", "-o", "out"))
    assert {p.name for p in work.iterdir()} == {"x.mrc", "x.map"}


def test_names_of_folders():
    assert output_folders([Path("d/m.mrc.gz")], None) == [Path("occupy_m")]
    assert output_folders([Path("d/m.mrc.gz")], Path("o")) == [Path("o")]
    two = [Path("d/m.mrc"), Path("e/m.map")]
    assert output_folders(two, None) == [Path("occupy_d_m"), Path("occupy_e_m")]
    assert output_folders(two, Path("o")) == [Path("o/d_m"), Path("o/e_m")]
    with pytest.raises(InputError, match="d_m"):
        output_folders([*two, Path("f/d_m.mrc")], None)


# --- --resume -----------------------------------------------------------------------------------------


@pytest.fixture
def again(cli, blob, work):
    """Return a function that resumes a finished run and tells whether it was made anew."""
    (work / "m.mrc").write_bytes(blob.read_bytes())
    options = ["--amplify", 3, "--resume"]
    assert cli("m.mrc", *options).code == 0
    record = work / "occupy_m" / "m_occupy.json"

    def resume(*changed, first="m.mrc"):
        os.utime(record, ns=(1, 1))
        said = cli(first, *(changed or options))
        assert said.code == 0
        if made := record.stat().st_mtime_ns != 1:
            assert "lowest confident scale" in said.out
        else:
            assert said.out == "m.mrc: done already, in occupy_m\n"
        return made

    return resume


def test_finished_maps_are_skipped(again, work):
    scale = work / "occupy_m" / "m_scale.mrc"
    before = scale.stat().st_mtime_ns
    assert not again()
    assert scale.stat().st_mtime_ns == before


def test_without_resume_they_are_not(again):
    assert again("--amplify", 3)


@pytest.mark.parametrize(
    "options",
    [
        ("--amplify", 4),
        ("--amplify", 3, "--seed", 1),
        ("--amplify", 3, "--plot"),
        ("--amplify", 3, "--save-intermediate"),
        ("--amplify", 3, "--level", 0.3),
        ("--amplify", 3, "--voxel-size", 1.9),
    ],
)
def test_other_settings_are_run(again, options):
    assert again(*options, "--resume")
    assert not again(*options, "--resume")


def test_another_map_is_run(again, blob, work):
    from occupy.io.mrc import read_map

    volume = read_map(blob)
    write_map(work / "m.mrc", volume.with_data(volume.data * 2))
    assert again()
    assert not again()


def test_another_mask_is_run(again, half_mask, work):
    from occupy.io.mrc import read_map

    (work / "mask.mrc").write_bytes(half_mask.read_bytes())
    options = ("--amplify", 3, "--resume", "--target-mask", "mask.mrc")
    assert again(*options)
    assert not again(*options)
    mask = read_map(half_mask)
    write_map(work / "mask.mrc", mask.with_data(mask.data[:, :, ::-1]))
    assert again(*options)
    assert not again(*options)
    assert again()


@pytest.mark.parametrize("name", ["m_scale.mrc", "m_amplified.mrc", "m.cxc", "m_occupy.log"])
def test_a_missing_file_is_made_again(again, work, name):
    (work / "occupy_m" / name).unlink()
    assert again()
    assert (work / "occupy_m" / name).exists()


def test_a_damaged_record_is_made_again(again, work):
    path = work / "occupy_m" / "m_occupy.json"
    for damage in ("{", "[]", json.dumps({"program": "occupy", "format": 1})):
        path.write_text(damage)
        assert again()


def test_only_what_is_missing_in_a_set(cli, three, work):
    assert cli(*three[:2], "--quiet", "-o", "out").code == 0
    done = work / "out" / "a_map" / "map_scale.mrc"
    before = done.stat().st_mtime_ns
    said = cli(*three, "-o", "out", "--resume")
    assert said.code == 0
    assert said.out.count("done already") == 2
    assert said.out.count("lowest confident scale") == 1
    assert done.stat().st_mtime_ns == before
    assert (work / "out" / "other" / "other_scale.mrc").exists()


def test_the_classes_of_a_relion_job(cli, work, shared_data):
    job = shared_data("relion_50s") / "Class3D" / "job004"
    said = cli("estimate", job, "-o", "classes", "--max-box", 48)
    assert said.code == 0
    assert "4 RELION classes" in said.out
    assert "can't be compared" in said.err
    written = sorted(path.name for path in (work / "classes").iterdir())
    assert written == [f"run_it025_class00{k}" for k in range(1, 5)]


def test_a_folder_without_maps_says_what_it_holds(cli, the_error, work):
    (work / "notes").mkdir()
    (work / "notes" / "readme.txt").write_text("nothing")
    assert "no maps here (it holds readme.txt" in the_error(cli("estimate", "notes"))
