"""Command lines written for OccuPy 0.1.13 mean here what they meant there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from occupy.cli.main import _with_command
from occupy.io.mrc import read_map, write_map

WHOLE = """
    -r 4 -lp 8 -am 3 -at 2 --sigmoid 5 --pivot 0.2 --occupancy --exclude-solvent --tau 0.9 --kernel-size 5
    --tile-size 5 --max-box 64 --S0 --nlrc --hist-match --target-mask m.mrc --solvent-def s.mrc --plot --quiet
"""


@pytest.fixture
def masks(half_mask, blob, work):
    (work / "m.mrc").write_bytes(half_mask.read_bytes())
    volume = read_map(blob)
    z, y, x = np.indices(volume.shape) - 19.5
    write_map(work / "s.mrc", volume.with_data((z**2 + y**2 + x**2 < 15**2).astype(np.float32)))


def test_the_whole_of_it(cli, blob, work, masks, result):
    (work / "map.mrc").write_bytes(blob.read_bytes())
    said = cli("-i", "map.mrc", *WHOLE.split())
    assert (said.code, said.out, said.err) == (0, "", "")
    got = result(work / "occupy_map", "map")
    record = got.record
    assert record["settings_asked"] == {
        "mode": "occupancy", "estimator": "nlf", "resolution": 4.0, "lowpass": 8.0, "kernel_size": 5,
        "kernel_radius": None, "tau": 0.9, "tile_size": 5, "naive": True, "recalibrate": True,
        "max_box": 64, "hedge": 1.0, "exclude_solvent": True, "use_confidence": True, "amplify": 3.0,
        "fdr": None, "bfactor": False,
        "attenuate": 2.0, "sigmoid": 5.0, "pivot": 0.2, "scale_limit": 0.05, "lowpass_output": None,
        "match_histogram": True, "seed": 0, "threads": None,
    }  # fmt: skip
    settings = record["settings"]
    assert settings["kernel_size"] == settings["tile_size"] == [5, 5, 5]
    assert settings["tau"] == 0.9
    assert record["numbers"]["full_scale_value"] > 0
    assert "occupancy" in record["numbers"]["target"]
    assert set(record["inputs"]) == {"map", "target_mask", "solvent_mask"}
    assert {"amplified", "attenuated", "sigmoid", "slices_picture"} <= set(record["outputs"])
    data = np.sort(read_map(work / "map.mrc").data, axis=None)
    assert np.array_equal(np.sort(got["sigmoid"], axis=None), data)


def test_nothing_but_a_map(cli, blob, work, result):
    """The older program looked at the raw map, modified nothing, and cut tiles of N/20 voxels."""
    assert cli("-i", blob, "--quiet").code == 0
    got = result(work / "occupy_blob")
    settings = got.record["settings"]
    assert settings["mode"] == "resolution"
    assert settings["estimator"] == "nlf"
    assert settings["tile_size"] == [2, 2, 2]
    assert settings["use_confidence"] is True
    assert (settings["amplify"], settings["attenuate"], settings["sigmoid"]) == (None, None, None)
    assert set(got.record["outputs"]) == {"scale", "confidence", "chimerax", "log"}


def test_the_same_words_in_the_new_way(cli, blob, work, result, body):
    old = "--occupancy -am 4 -lp 9 --tile-size 12 -o old --quiet"
    new = "--estimator nlf --amplify 4 --lowpass 9 --pivot 0.01 --max-box 256 --tile-size 12 -o new --quiet"
    assert cli("--input-map", blob, *old.split()).code == 0
    assert cli("estimate", blob, *new.split()).code == 0
    one, other = result(work / "old"), result(work / "new")
    assert one.record["settings"] == other.record["settings"]
    for product in ("scale", "confidence", "amplified"):
        assert body(one.path(product)) == body(other.path(product))


@pytest.mark.parametrize(
    ("words", "setting", "value"),
    [
        ("--amplify 3", "amplify", 3.0),
        ("-am 1", "amplify", None),
        ("--attenuate 2", "attenuate", 2.0),
        ("--sigmoid 1", "sigmoid", None),
        ("-t 0.8", "tau", 0.8),
        ("--kernel-radius 2.5", "kernel_radius", 2.5),
        ("--lowpass 11", "lowpass", 11.0),
        ("--lowpass-output 12", "lowpass_output", 12.0),
        ("--hedge-confidence 3", "hedge", 3.0),
        ("--scale-limit 0.1", "scale_limit", 0.1),
        ("--raw-scale", "mode", "resolution"),
        ("--lp-scale", "mode", "occupancy"),
        ("--omit-confidence", "use_confidence", False),
        ("--SW", "naive", False),
        ("--retain-solvent", "exclude_solvent", False),
        ("--no-nlrc --no-hist-match --no-plot --no-save-all-maps --verbose", "recalibrate", False),
        ("--chimerax --no-chimerax-silent", "max_box", 256),
    ],
)
def test_every_flag(cli, blob, work, result, words, setting, value):
    said = cli("-i", blob, "-o", "out", "--tile-size", 8, *words.split())
    assert (said.code, said.err) == (0, "")
    assert result(work / "out").record["settings_asked"][setting] == value


def test_all_maps_and_the_least_scale_shown(cli, blob, work, result):
    assert cli("-i", blob, "--save-all-maps", "--min-vis-scale", 0.35, "--quiet").code == 0
    got = result(work / "occupy_blob")
    assert got.record["outputs"]["lowpass"] == "blob_lowpass.mrc"
    assert "range 0.35,1" in got.script


def test_keeping_the_output_path(cli, blob, work, result):
    (work / "deep").mkdir()
    (work / "deep" / "map.mrc").write_bytes(blob.read_bytes())
    assert cli("-i", "deep/map.mrc", "--keep-output-path", "--quiet").code == 0
    assert (work / "deep" / "occupy_map" / "map_scale.mrc").exists()
    assert not (work / "occupy_map").exists()


def test_how_an_old_command_line_is_known():
    assert _with_command(["-i", "m.mrc"]) == ["legacy", "-i", "m.mrc"]
    assert _with_command(["-am", "3", "--input-map=m.mrc"])[0] == "legacy"
    assert _with_command(["--quiet", "--emdb", "3061"])[0] == "legacy"
    assert _with_command(["m.mrc", "--amplify", "3"])[0] == "estimate"
    assert _with_command(["--amplify", "3", "m.mrc"])[0] == "estimate"
    assert _with_command(["estimate", "m.mrc"])[0] == "estimate"
    assert _with_command(["mask", "solvent", "x"])[0] == "mask"
    assert _with_command(["--version"]) == ["--version"]
    assert _with_command([]) == []


def test_what_makes_no_sense(cli, the_error, blob, work):
    assert "either a map (-i MAP) or an EMDB entry" in the_error(cli("-i", blob, "--emdb", "3061"))
    assert "'abc' is not an EMDB entry" in the_error(cli("--emdb", "abc"))
    assert "none.mrc: no such file" in the_error(cli("-i", "none.mrc"))
    assert "--tau" in the_error(cli("-i", blob, "--tau", 2))
    assert "--pivot" in the_error(cli("-i", blob, "--pivot", 0))
    assert "minimum scale" in the_error(cli("-i", blob, "--min-vis-scale", 1))
    assert "No such option: --kernel-sise" in the_error(cli("-i", blob, "--kernel-sise", 5))
    assert not list(work.iterdir())


# --- --show-chimerax ----------------------------------------------------------------------------------


def test_without_chimerax(cli, the_error, blob, work, monkeypatch):
    monkeypatch.setenv("PATH", str(work))
    message = the_error(cli("-i", blob, "--show-chimerax", "-o", "out", "--quiet"))
    assert message.startswith("ChimeraX was not found")
    assert "out/blob.cxc" in message
    # The results are all there.
    assert (work / "out" / "blob_occupy.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")
@pytest.mark.parametrize("name", ["chimerax", "ChimeraX"])
def test_chimerax_is_started_with_the_script(program, blob, work, name):
    stand_in = work / "bin dir" / name
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$#" "$1" > "{work}/started"\n')
    stand_in.chmod(0o755)
    (work / "a map; $(touch x).mrc").write_bytes(blob.read_bytes())
    words = ["-i", "a map; $(touch x).mrc", "--show-chimerax", "-o", "my results", "--quiet"]
    done = program(*words, PATH=f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    count, script = wait_for(work / "started").splitlines()
    assert count == "1"
    assert Path(script) == Path("my results") / "a map; $(touch x).cxc"
    assert (work / script).read_text(encoding="utf-8").startswith("# OccuPy")
    assert not (work / "x").exists()


def wait_for(path: Path) -> str:
    for _ in range(200):
        if path.exists() and (text := path.read_text()).count("\n") == 2:
            return text
        time.sleep(0.02)
    raise AssertionError(f"{path} was not written")
