"""What a result folder says of its files is true, whatever happens to inputs and outputs meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from occupy.cli import main
from occupy.io import mrc
from occupy.io.mrc import read_map, write_map
from occupy.report.contents import changed_file
from occupy.report.record import read_record
from occupy.report.set_record import NAME

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and devices as POSIX has them")


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def m(blob, work):
    """Return a copy of a map, in the current folder."""
    (work / "m.mrc").write_bytes(blob.read_bytes())
    return work / "m.mrc"


@pytest.fixture(scope="module")
def once(blob, tmp_path_factory):
    """Return a folder with a map and its estimate, to be copied."""
    folder = tmp_path_factory.mktemp("once")
    shutil.copy(blob, folder / "m.mrc")
    assert main.run(["estimate", str(folder / "m.mrc"), "-o", str(folder / "o"), "--quiet"]) == 0
    return folder


@pytest.fixture
def done(once, work):
    """Return the map of which the folder ``o`` holds an estimate."""
    shutil.copytree(once / "o", work / "o")
    return once / "m.mrc"


def during(monkeypatch, what):
    """Do something while the first map is read: its header is, its data are not."""
    payload, first = mrc._payload, []

    def read(*given):
        if not first:
            first.append(True)
            what()
        return payload(*given)

    monkeypatch.setattr(mrc, "_payload", read)


def assert_vouched(folder: Path, stem: str = "m") -> dict:
    record = read_record(folder / f"{stem}_occupy.json")
    assert record["files"].keys() == set(record["outputs"].values())
    assert changed_file(folder, record["files"]) is None
    assert {p.name for p in folder.iterdir()} == {*record["files"], f"{stem}_occupy.json"}
    return record


def test_a_record_lists_its_files_with_size_and_checksum(cli, m, work):
    assert cli("m.mrc", "-o", "o", "--amplify", 3, "--plot", "--report", "--save-intermediate").code == 0
    record = assert_vouched(work / "o")
    for name, about in record["files"].items():
        raw = (work / "o" / name).read_bytes()
        assert about == {"bytes": len(raw), "crc32": f"{zlib.crc32(raw):08x}"}


def test_h03_the_record_is_of_the_bytes_that_were_estimated(cli, m, work, monkeypatch):
    old, volume = sha(m), read_map(m)
    assert cli("m.mrc", "-o", "whole", "--quiet").code == 0
    during(monkeypatch, lambda: write_map(m, volume.with_data(volume.data[::-1] * 3)))
    said = cli("m.mrc", "-o", "o")
    assert said.code == 0
    assert said.err.count("\n") == 1
    assert "m.mrc was replaced or removed since it was read" in said.err
    assert read_record(work / "o" / "m_occupy.json")["inputs"]["map"]["sha256"] == old != sha(m)
    assert (work / "o" / "m_scale.mrc").read_bytes() == (work / "whole" / "m_scale.mrc").read_bytes()
    monkeypatch.undo()
    monkeypatch.chdir(work)
    assert "done already" not in cli("m.mrc", "-o", "o", "--resume").out


def test_l08_a_map_removed_while_it_is_read_is_estimated(cli, m, work, monkeypatch):
    during(monkeypatch, m.unlink)
    said = cli("m.mrc", "-o", "o")
    assert (said.code, said.err.count("\n")) == (0, 1)
    assert "replaced or removed" in said.err
    assert_vouched(work / "o")


def test_m13_a_map_cut_short_while_it_is_read_is_one_line(cli, the_error, m, work, monkeypatch):
    write_map(m, mrc.Volume.from_array(mrc.np.ones((80, 80, 80), mrc.np.float32), 1.5))
    during(monkeypatch, lambda: os.truncate(m, 200_000))
    assert "truncated" in the_error(cli("m.mrc", "-o", "o"))
    assert not (work / "o").exists()


def test_h04_modify_replaces_a_map_that_the_estimates_record_no_longer_vouches_for(cli, m, work):
    assert cli("m.mrc", "-o", "o", "--amplify", 3, "--quiet").code == 0
    before = (work / "o" / "m_amplified.mrc").read_bytes()
    assert cli("modify", "o", "--amplify", 30, "--quiet").code == 0
    record = read_record(work / "o" / "m_occupy.json")
    assert record["withdrawn"] == ["amplified"]
    assert "m_amplified.mrc" not in {*record["outputs"].values(), *record["files"]}
    modified = read_record(work / "o" / "m_modified.json")
    assert changed_file(work / "o", modified["files"]) is None
    assert "withdrawn" not in modified
    # The estimate can still be modified and read, but not passed for what was asked for then.
    assert cli("modify", "o", "--sigmoid", 3, "--quiet").code == 0
    said = cli("m.mrc", "-o", "o", "--amplify", 3, "--resume")
    assert "estimated again, as in o amplified was replaced since" in said.out
    assert (work / "o" / "m_amplified.mrc").read_bytes() == before
    assert_vouched(work / "o")


@pytest.mark.parametrize("damage", ["cut", "changed", "removed"])
@pytest.mark.parametrize("name", ["m_scale.mrc", "m.cxc"])
def test_m05_resume_takes_only_what_is_as_it_was_written(cli, done, work, damage, name):
    assert "done already" in cli(done, "-o", "o", "--resume").out
    path = work / "o" / name
    raw = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(raw[:-1] if damage == "cut" else raw[:-1] + bytes([raw[-1] ^ 1]))
    said = cli(done, "-o", "o", "--resume")
    assert "done already" not in said.out
    assert name in said.out.splitlines()[0]
    # The script names the map as seen from its folder, which was copied.
    assert name == "m.cxc" or path.read_bytes() == raw
    assert_vouched(work / "o")


def test_modify_and_regions_refuse_a_map_that_is_not_as_it_was_written(cli, the_error, m, work):
    assert cli("m.mrc", "-o", "o", "--quiet").code == 0
    scale = read_map(work / "o" / "m_scale.mrc")
    write_map(work / "o" / "m_scale.mrc", scale.with_data(scale.data * 0.5))
    before = {p.name: sha(p) for p in (work / "o").iterdir()}
    assert "m_scale.mrc is not as the run wrote it" in the_error(cli("modify", "o", "--amplify", 3))
    assert "m_scale.mrc is not as the run wrote it" in the_error(cli("regions", "o", "--masks", m))
    assert {p.name: sha(p) for p in (work / "o").iterdir()} == before


def test_a_record_of_0_1_vouches_for_no_file(cli, m, work):
    assert cli("m.mrc", "-o", "o", "--quiet").code == 0
    path = work / "o" / "m_occupy.json"
    record = json.loads(path.read_text())
    del record["files"]
    path.write_text(json.dumps(record))
    said = cli("modify", "o", "--amplify", 3)
    assert said.code == 0
    assert "keeps no checksums" in said.err
    said = cli("m.mrc", "-o", "o", "--resume")
    assert "kept no checksums" in said.out
    assert_vouched(work / "o")


KILL_BEFORE = """
import os, signal, sys
import occupy.io.atomic as atomic
from pathlib import Path

at, move, done = int(sys.argv[1]), Path.replace, 0

def replace(self, target):
    global done
    done += 1
    if done == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return move(self, target)

Path.replace = replace
from occupy.cli.main import run
sys.exit(run(sys.argv[2:]))
"""


def killed(at: int, *words: object) -> int:
    """Run the command line and kill it when a file is about to appear under its name, for the n-th time."""
    return subprocess.run(
        [sys.executable, "-c", KILL_BEFORE, str(at), *map(str, words)], check=False
    ).returncode


@POSIX
def test_m11_a_killed_modify_leaves_no_record_of_what_it_replaced(cli, m, work):
    assert cli("m.mrc", "-o", "o", "--amplify", 2, "--quiet").code == 0
    assert cli("modify", "o", "--amplify", 3, "--attenuate", 3, "-o", "k", "--quiet").code == 0
    for folder in ("k", "o"):
        for at in (1, 3):
            code = killed(at, "modify", "o", "--amplify", 20 + at, "--attenuate", 4, "-o", folder)
            assert code == -signal.SIGKILL
            assert not (work / folder / "m_modified.json").exists()
            record = work / folder / "m_occupy.json"
            if record.exists():
                assert changed_file(work / folder, read_record(record)["files"]) is None


@POSIX
def test_a_killed_estimate_leaves_no_record_of_what_it_replaced(cli, m, work):
    first = ("m.mrc", "-o", "o", "--amplify", 3, "--plot", "--quiet")
    assert cli(*first).code == 0
    for at in (1, 3, 6):  # a map, another, the record
        code = killed(
            at, "estimate", "m.mrc", "-o", "o", "--lowpass", 15, "--estimator", "nlf", "--attenuate", 3
        )
        assert code == -signal.SIGKILL
        assert not (work / "o" / "m_occupy.json").exists()
        assert not list((work / "o").glob("*.png"))
        assert not (work / "o" / "m_amplified.mrc").exists()
    assert cli("m.mrc", "-o", "o", "--quiet").code == 0
    assert_vouched(work / "o")


def test_old_files_among_new_ones_are_removed_and_named(cli, m, work):
    (work / "o").mkdir()
    (work / "o" / "notes.txt").write_text("mine")
    assert cli("m.mrc", "-o", "o", "--amplify", 3, "--plot", "--quiet").code == 0
    write_map(work / "o" / "m_sigmoid.mrc", read_map(m), "mine")
    (work / "o" / "m_solvent.png").write_bytes(b"drawn by hand")
    said = cli("m.mrc", "-o", "o", "--lowpass", 15)
    (line,) = [line for line in said.out.splitlines() if "removed" in line]
    assert line.split(": ")[1].split(", ") == [
        "m_colouring.map",
        "m_slices.png",
        "m_modification.png",
        "m_amplified.mrc",
    ]
    left = {p.name for p in (work / "o").iterdir()}
    assert {"notes.txt", "m_sigmoid.mrc", "m_solvent.png"} < left
    assert not left & {"m_slices.png", "m_modification.png", "m_amplified.mrc"}


def test_what_was_read_is_never_removed(cli, m, work):
    assert cli("m.mrc", "-o", "o", "--fdr", 0.01, "--quiet").code == 0
    mask = work / "o" / "m_mask_fdr.mrc"
    raw = mask.read_bytes()
    assert cli("m.mrc", "-o", "o", "--solvent-mask", mask, "--quiet").code == 0
    assert mask.read_bytes() == raw


def test_modified_maps_of_one_estimate_stay_and_of_another_go(cli, m, work):
    assert cli("m.mrc", "-o", "one", "--quiet").code == 0
    assert cli("m.mrc", "-o", "two", "--lowpass", 15, "--quiet").code == 0
    record = json.loads((work / "two" / "m_occupy.json").read_text())
    record["created"] = "2020-01-01T00:00:00+00:00"  # not in the same second
    (work / "two" / "m_occupy.json").write_text(json.dumps(record))
    for options in (("--sigmoid", 3), ("--amplify", 3), ("--amplify", 4)):
        assert cli("modify", "one", *options, "-o", "new").code == 0
    modified = read_record(work / "new" / "m_modified.json")
    assert [run["outputs"] for run in modified["earlier"]] == [{"sigmoid": "m_sigmoid.mrc"}]
    assert modified["outputs"] == {"amplified": "m_amplified.mrc", "chimerax": "m_modified.cxc"}
    said = cli("modify", "two", "--amplify", 3, "-o", "new")
    assert "removed from new, as of another estimate: m_sigmoid.mrc" in said.out
    names = {"m_amplified.mrc", "m_modified.cxc", "m_modified.json"}
    assert {p.name for p in (work / "new").iterdir()} == names


def test_a_folder_of_results_is_no_input(cli, the_error, m, work):
    assert cli("m.mrc", "-o", "o", "--quiet").code == 0
    before = {p.name: sha(p) for p in (work / "o").iterdir()}
    message = the_error(cli("o"))
    assert message.startswith("o holds the results of an estimate (m_occupy.json)")
    for words in ("occupy view", "occupy modify", "occupy regions"):
        assert words in message
    assert {p.name: sha(p) for p in (work / "o").iterdir()} == before
    assert not (work / "occupy_m_scale").exists()


def test_an_infinite_power_is_recorded_and_found_again(cli, m, work):
    words = ("m.mrc", "-o", "o", "--amplify", "inf")
    assert cli(*words, "--quiet").code == 0

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads((work / "o" / "m_occupy.json").read_text(), parse_constant=refuse)
    assert found["settings_asked"]["amplify"] == found["settings"]["amplify"] == "inf"
    assert read_record(work / "o" / "m_occupy.json")["settings_asked"]["amplify"] == float("inf")
    assert "done already" in cli(*words, "--resume").out
    assert cli("modify", "o", "--amplify", "inf", "-o", "k", "--quiet").code == 0
    assert json.loads((work / "k" / "m_modified.json").read_text())["settings"]["amplify"] == "inf"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("outputs", ["x"]), ("outputs", {"scale": 3}), ("outputs", {"scale": "../m.mrc"}),
        ("outputs", {"scale": ".."}), ("numbers", {}), ("numbers", {"solvent": 1}),
        ("inputs", 5), ("inputs", {"map": None}), ("inputs", {"map": {"sha256": 1}}), ("files", ["x"]),
        ("files", {"m_scale.mrc": {}}), ("settings_asked", "x"), ("settings", {}), ("settings", None),
        ("notices", {"a": 1}), ("notices", [1]), ("options", []),
        ("format", "one"), ("withdrawn", 3),
    ],
)  # fmt: skip
def test_l07_a_tampered_record_is_one_line_and_stops_nothing(cli, done, work, part, value):
    path = work / "o" / "m_occupy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: value}))
    for words in (
        ("modify", "o", "--attenuate", 3, "-o", "k"),
        ("mask", "solvent", "o"),
        ("regions", "o", "--masks", done),
    ):
        said = cli(*words)
        assert said.code in (0, 1)
        assert "our mistake" not in said.err
        assert said.err.count("\n") == 1 or said.code == 0
    said = cli(done, "-o", "o", "--resume")
    assert (said.code, said.err) == (0, "")


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@FULL
@pytest.mark.parametrize("words", [("m.mrc", "-o", "o"), ("--help",), ("modify", "--help"), ("--version",)])
def test_l09_a_full_standard_output_is_one_line(program, m, work, words):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*program.command, *words],
            env=program.environment({}), stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert "our mistake" not in done.stderr
    if words[0] == "m.mrc":
        assert_vouched(work / "o")


@FULL
def test_a_full_error_stream_stops_nothing(program, masked, work):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*program.command, str(masked), "-o", "o"],
            env=program.environment({}), stdout=subprocess.PIPE, stderr=full, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert "masked.mrc" in done.stdout
    assert_vouched(work / "o", "masked")


def test_the_report_names_the_source_of_full_scale(cli, m, work):
    for estimator, words in (
        ("calibrated", "from the histogram of the local maxima; 95 %"),
        ("nlf", "tile of"),
    ):
        assert cli("m.mrc", "-o", estimator, "--estimator", estimator, "--report", "--quiet").code == 0
        text = (work / estimator / "m_report.html").read_text(encoding="utf-8")
        row = (
            text.split("Full scale</th>")[-1] if "Full scale</th>" in text else text.split(">Full scale<")[1]
        )
        assert words in row[:300]


def test_the_record_of_a_set_vouches_for_its_files(cli, job, work):
    words = ("classes", job, "-o", "o", "--threads", 1, "--quiet")
    assert cli(*words, "--compare", 1, 2).code == 0
    record = json.loads((work / "o" / NAME).read_text())
    assert changed_file(work / "o", record["files"]) is None
    names = {str(p.relative_to(work / "o")) for p in (work / "o").rglob("*") if p.is_file()}
    assert names == {*record["files"], NAME, "occupy_set.started.json"}
    for entry in record["maps"]:
        assert entry["sha256"] == sha(Path(entry["path"]))
    # Another comparison: the script of the first is removed; what others put there stays.
    (work / "o" / "notes.txt").write_text("mine")
    said = cli(*words[:-1], "--compare", 1, 3, "--no-components")
    (line,) = [line for line in said.out.splitlines() if "removed" in line]
    assert "002_minus_" in line
    assert (work / "o" / "notes.txt").exists()
    # A file that is not as written is made anew; one that is, is not.
    assert "done already" in cli(*words[:-1], "--compare", 1, 3, "--no-components", "--resume").out
    scale = next((work / "o").glob("*class002_occupancy.mrc"))
    os.truncate(scale, 2000)
    said = cli(*words[:-1], "--compare", 1, 3, "--no-components", "--resume")
    assert f"starting anew, as {scale.name} is not as it was written" in said.err
    assert changed_file(work / "o", json.loads((work / "o" / NAME).read_text())["files"]) is None


def test_a_set_whose_maps_change_meanwhile_is_refused(cli, job, work, monkeypatch):
    from occupy import classes

    shutil.copytree(job, work / "job")
    pose_notices = classes.pose_notices

    def changed(*given):
        os.utime(next((work / "job").glob("*class002.mrc")), ns=(0, 0))
        return pose_notices(*given)

    monkeypatch.setattr(classes, "pose_notices", changed)
    said = cli("classes", work / "job", "-o", "o", "--no-components", "--threads", 1)
    assert said.code == 1
    assert "class002.mrc: the map changed while the set was worked on" in said.err.splitlines()[-1]
    assert not (work / "o" / NAME).exists()
