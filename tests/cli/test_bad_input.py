"""What cannot work ends in one clear line, and leaves nothing behind; what is doubtful is said."""

from __future__ import annotations

import bz2
import errno
import gzip
import json
import os
import re
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from occupy.io.mrc import _MapWriter, map_stem, read_map, write_map
from occupy.volume import Volume
from strategies import content

GIVEN = "given"


def with_values(change):
    """Return a maker of a map whose values were changed."""

    def make(blob: Path, path: Path) -> None:
        volume = read_map(blob)
        data = volume.data.copy()
        write_map(path, volume.with_data(change(data)))

    return make


def with_bytes(change):
    def make(blob: Path, path: Path) -> None:
        path.write_bytes(change(blob.read_bytes()))

    return make


def with_nan(data):
    data[20, 20, 20:23] = np.nan, np.inf, np.nan
    return data


def directory(blob: Path, path: Path) -> None:
    path.mkdir()


def image(blob: Path, path: Path) -> None:
    write_map(path, Volume.from_array(read_map(blob).data[:1], 2.0))


def nothing(blob: Path, path: Path) -> None:
    pass


FILES = {
    "missing": (nothing, "no such file"),
    "directory": (directory, "the folder is empty"),
    "empty": (with_bytes(lambda raw: b""), "truncated"),
    "text": (with_bytes(lambda raw: b"this is no map\n" * 100), "not an MRC/CCP4 map"),
    "truncated": (with_bytes(lambda raw: raw[:-1000]), "truncated"),
    "truncated header": (with_bytes(lambda raw: raw[:500]), "truncated"),
    "truncated gzip": (with_bytes(lambda raw: gzip.compress(raw)[:-2000]), "damaged or truncated"),
    "not finite": (with_values(with_nan), "3 voxels are not finite"),
    "constant": (with_values(lambda data: np.full_like(data, 0.25)), "constant (0.25 everywhere)"),
    "inverted": (with_values(lambda data: -np.abs(data) - 1), "contrast inverted"),
    "2D image": (image, "2D image (40 x 40 x 1)"),
    "no voxel size": (with_bytes(lambda raw: raw[:40] + bytes(12) + raw[52:]), "--voxel-size"),
    "complex": (with_bytes(lambda raw: raw[:12] + b"\4\0\0\0" + raw[16:]), "transform"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_usable_map(cli, the_error, blob, work, kind):
    make, reason = FILES[kind]
    make(blob, work / "given.mrc")
    before = sorted(work.iterdir())
    message = the_error(cli("given.mrc", "--amplify", 3))
    assert GIVEN in message
    assert reason in message
    assert sorted(work.iterdir()) == before


def test_a_stack_of_images(cli, the_error, blob, work):
    (work / "given.mrcs").write_bytes(blob.read_bytes())
    assert "stack of images" in the_error(cli("given.mrcs"))
    assert [p.name for p in work.iterdir()] == ["given.mrcs"]


@pytest.mark.parametrize("role", ["--solvent-mask", "--target-mask"])
def test_a_mask_that_does_not_fit(cli, the_error, blob, work, role):
    write_map(work / "small.mrc", Volume.from_array(np.ones((20, 20, 20), np.float32), 2.0, "small"))
    message = the_error(cli(blob, role, "small.mrc"))
    assert "mask small is (20, 20, 20) voxels" in message
    assert "(40, 40, 40)" in message
    assert [p.name for p in work.iterdir()] == ["small.mrc"]


@pytest.mark.parametrize("role", ["--solvent-mask", "--target-mask"])
def test_a_mask_without_content(cli, the_error, blob, work, role):
    write_map(work / "none.mrc", read_map(blob).with_data(np.zeros((40, 40, 40), np.float32)))
    assert "mask" in the_error(cli(blob, role, "none.mrc"))
    assert "no such file" in the_error(cli(blob, role, "elsewhere.mrc"))
    assert [p.name for p in work.iterdir()] == ["none.mrc"]


OPTIONS = {
    "--tau 2": "tau must lie between 0 and 1, not 2",
    "--pivot 0": "pivot must lie between 0 and 1, not 0",
    "--amplify 0.5": "amplify must be at least 1, not 0.5",
    "--attenuate nan": "attenuate must be at least 1, not nan",
    "--kernel-size 4": "kernel size must be an odd number of voxels from 1 to 31, not 4",
    "--unknown": "No such option: --unknown",
    "--tile-size abc": "tile size must be a number of voxels (12) or a length in ångström (40A), not 'abc'",
    "--tile-size 3.5": "3.5A",
    "--mode both": "'both' is not one of 'occupancy', 'resolution'",
    "--max-box 7": "max box must be at least 32, not 7",
    "--max-box many": "'--max-box'",
    "--lowpass -8": "lowpass must be positive, not -8",
    "--lowpass nan": "lowpass must be positive, not nan",
    "--threads 0": "threads must be at least 1, not 0",
    "--voxel-size 0": "voxel size must be positive, not 0",
    "--level nan": "contour level must be a number, not nan",
    "--hedge 0": "hedge must be at least 1, not 0",
    "--seed -1": "seed must not be negative, not -1",
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options_that_make_no_sense(cli, the_error, blob, work, options):
    message = the_error(cli(blob, *options.split()))
    assert OPTIONS[options] in message
    assert "Value error" not in message
    assert not list(work.iterdir())


def test_no_map_at_all(cli, the_error, work):
    assert "MAP..." in the_error(cli("estimate"))
    assert "MAP..." in the_error(cli("--amplify", 3))


def test_a_file_in_the_place_of_the_folder(cli, the_error, blob, work):
    (work / "occupy_blob").write_text("mine")
    message = the_error(cli(blob))
    assert "occupy_blob" in message
    assert "in the way" in message
    assert (work / "occupy_blob").read_text() == "mine"
    assert "in the way" in the_error(cli(blob, "-o", "occupy_blob/below"))


def test_a_folder_in_the_place_of_a_file(cli, the_error, blob, work):
    (work / "out" / "blob_scale.mrc").mkdir(parents=True)
    assert "blob_scale.mrc" in the_error(cli(blob, "-o", "out"))
    # Without a record, nothing there claims to be a result; and no half-written file is left.
    maps = {f"blob_{name}.mrc" for name in ("scale", "confidence", "occupancy", "uncertainty")}
    assert {p.name for p in (work / "out").iterdir()} <= maps


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(cli, the_error, blob, work):
    (work / "out").mkdir(mode=0o500)
    assert "permission denied; choose another folder with -o" in the_error(cli(blob, "-o", "out"))


@pytest.mark.parametrize("options", [(), ("--amplify", 3, "--match-histogram")])
@pytest.mark.parametrize("own_folder", [False, True])
def test_a_full_disk_leaves_nothing(cli, the_error, blob, work, monkeypatch, options, own_folder):
    done = []

    def write(self, start, slab):
        done.append(start)
        if len(done) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_MapWriter, "write_planes", write)
    if own_folder:
        (work / "out").mkdir()
    message = the_error(cli(blob, "-o", "out", *options))
    assert message.startswith("no space left while writing out/blob_")
    assert message.endswith("; free some space or choose another folder with -o")
    assert [p.name for p in work.rglob("*")] == ["out"] * own_folder


def test_too_little_memory(cli, the_error, blob, work, monkeypatch):
    def none(*_, **__):
        raise MemoryError

    monkeypatch.setattr("occupy.pipeline.lowpass_onto", none)
    assert "not enough memory; try --max-box" in the_error(cli(blob))
    assert not list(work.iterdir())


@pytest.mark.parametrize("name", ["both\"'quotes.mrc", "line\nbreak.mrc"])
def test_a_name_that_chimerax_cannot_open_is_said_before_anything_is_written(
    cli, the_error, blob, work, name
):
    (work / name).write_bytes(blob.read_bytes())
    assert "rename the file" in the_error(cli(name))
    assert len(list(work.iterdir())) == 1


def test_a_mistake_of_ours_is_called_so_and_debug_shows_it(cli, blob, work, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("wrong\nturn")

    monkeypatch.setattr("occupy.pipeline.lowpass_onto", broken)
    said = cli(blob)
    assert said.code == 1
    assert said.err == (
        "occupy: error: RuntimeError: wrong turn (this is our mistake; --debug shows where)\n"
    )
    with pytest.raises(RuntimeError, match="wrong"):
        cli(blob, "--debug")


def test_debug_shows_where_an_error_came_from(cli, work):
    with pytest.raises(ValueError, match="no such file"):
        cli("none.mrc", "--debug")


# --- doubtful, not wrong ------------------------------------------------------------------------------


def without_solvent(data):
    return np.random.default_rng(5).random(data.shape, dtype=np.float32)


DOUBTFUL = {
    "masked": "the map is masked or solvent-flattened",
    "voxel-size": "the voxel size is exactly 1 Å",
    "solvent-fit": "bad solvent fit",
    "machine-stamp": "no machine stamp",
}


@pytest.mark.parametrize("code", DOUBTFUL)
def test_what_is_doubtful_is_said_everywhere(cli, blob, masked, work, result, code):
    make = {
        "masked": with_bytes(lambda raw: masked.read_bytes()),
        "voxel-size": with_bytes(lambda raw: raw[:40] + np.float32([40, 40, 40]).tobytes() + raw[52:]),
        "solvent-fit": with_values(without_solvent),
        "machine-stamp": with_bytes(lambda raw: raw[:212] + bytes(4) + raw[216:]),
    }[code]
    make(blob, work / "given.mrc")
    said = cli("given.mrc", "-o", "out")
    assert said.code == 0
    got = result(work / "out", "given")
    texts = {notice["code"]: notice["text"] for notice in got.record["notices"]}
    assert DOUBTFUL[code] in texts[code]
    # Each once, on the error stream, with the name of the map.
    lines = said.err.splitlines()
    assert len(lines) == len(texts)
    assert all(line.startswith("occupy: warning: given.mrc: ") for line in lines)
    assert sum(DOUBTFUL[code] in line for line in lines) == 1
    labels = [line for line in got.script.splitlines() if line.startswith("2dlabels")]
    assert any(texts[code][:20].replace(";", ",") in line for line in labels)
    assert any("BAD SOLVENT FIT" in line for line in labels) == ("solvent-fit" in texts)
    assert f"[{code}]" in (got.folder / "given_occupy.log").read_text(encoding="utf-8")
    # Quiet is quiet.
    quiet = cli("given.mrc", "-o", "out", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_a_good_map_gives_no_warning(cli, blob, work, result):
    said = cli(blob, "-o", "out")
    assert said.err == ""
    assert result(work / "out").record["notices"] == []


# Files as they are


def test_l01_a_name_that_is_not_utf8_is_written_out(cli, blob, work):
    name = os.fsdecode(b"m\xff.mrc")
    (work / name).write_bytes(blob.read_bytes())
    assert cli(name, "-o", "out").code == 0
    record = json.loads((work / "out" / "mxff_occupy.json").read_bytes().decode("utf-8"))
    assert record["inputs"]["map"]["path"] == str(work / name)
    assert {path.name for path in (work / "out").iterdir()} == set(record["outputs"].values()) | {
        "mxff_occupy.json"
    }
    # ChimeraX could not be told the name.
    assert 'open "mxff_input.mrc"' in (work / "out" / "mxff.cxc").read_text(encoding="utf-8")


def test_l02_a_name_too_long_for_results(cli, the_error, blob, work):
    name = "x" * 240 + ".mrc"
    (work / name).write_bytes(blob.read_bytes())
    assert "too long for results" in the_error(cli(name, "-o", "out"))
    assert [path.name for path in work.iterdir()] == [name]
    kept = "x" * 196 + ".mrc"
    (work / name).rename(work / kept)
    assert cli(kept, "-o", "out", "--bfactor").code == 0


def test_l06_a_path_in_a_star_file_that_is_too_long(cli, the_error, work):
    (work / "run_it001_model.star").write_text(
        "data_model_general\n_rlnNrClasses 1\ndata_model_classes\nloop_\n_rlnReferenceImage\n"
        + "y" * 400
        + ".mrc\n"
    )
    assert "neither below the project folder" in the_error(cli("classes", "run_it001_model.star"))


@pytest.mark.parametrize("ending", [".mrc.gz", ".mrc.bz2", ".mrc", ".8.mrc"])
def test_h05_chimerax_gets_a_map_it_can_open(cli, blob, work, ending):
    """As it is, where ChimeraX reads it; otherwise a copy, plain and with the same frame."""
    raw = blob.read_bytes()
    pack = {".mrc.gz": gzip.compress, ".mrc.bz2": bz2.compress}.get(ending, bytes)
    if ending == ".8.mrc":
        data = np.round(read_map(blob).data * 40).astype(np.int8)
        raw = content(data, 0)
    name = f"z{ending}"
    (work / name).write_bytes(pack(raw))
    assert cli(name, "-o", "out", "--quiet").code == 0
    stem = map_stem(name)
    opened = re.findall(r'^open "(.*)"$', (work / "out" / f"{stem}.cxc").read_text(), re.M)
    names = json.loads((work / "out" / f"{stem}_occupy.json").read_text())["outputs"]
    if ending == ".mrc":
        assert opened[0] == "../z.mrc"
        assert "input" not in names
    else:
        assert opened[0] == names["input"] == f"{stem}_input.mrc"
        given, copy = read_map(work / name), read_map(work / "out" / opened[0])
        np.testing.assert_array_equal(copy.data, given.data)
        assert (copy.voxel_size, copy.frame.origin) == (given.voxel_size, given.frame.origin)


def test_h05_another_voxel_size_than_the_headers_needs_a_copy(cli, blob, work):
    assert cli(blob, "-o", "out", "--voxel-size", 3, "--quiet").code == 0
    assert 'open "blob_input.mrc"' in (work / "out" / "blob.cxc").read_text()
    assert read_map(work / "out" / "blob_input.mrc").voxel_size == (3.0, 3.0, 3.0)


def test_m04_a_map_and_its_results_lie_at_one_place_in_chimerax(cli, blob, work):
    data = read_map(blob).data
    (work / "o.map").write_bytes(content(data, origin=(50.0, 60.0, 70.0)))
    said = cli("o.map", "-o", "out")
    assert said.code == 0
    assert "ORIGIN (50, 60, 70 Å) is not used" in said.err
    with mrcfile.open(work / "out" / "o_scale.mrc") as file:
        assert file.header.origin.tolist() == (0.0, 0.0, 0.0)
        assert file.nstart.tolist() == (0, 0, 0)
