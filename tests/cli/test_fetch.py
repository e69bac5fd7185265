"""EMDB entries in place of files, against a stand-in for the archive on this computer."""

from __future__ import annotations

import gzip
import importlib.util
import sys
from pathlib import Path

import pytest

# The stand-in belongs to the tests of occupy.io.
_place = Path(__file__).resolve().parents[1] / "io" / "conftest.py"
_spec = importlib.util.spec_from_file_location("emdb_stand_in", _place)
stand_in = importlib.util.module_from_spec(_spec)
sys.modules["emdb_stand_in"] = stand_in
_spec.loader.exec_module(stand_in)
archive = stand_in.archive

HALVES = tuple(f"/EMD-3061/other/emd_3061_half_map_{n}.map.gz" for n in (1, 2))


@pytest.fixture
def emdb(archive, blob, tmp_path, monkeypatch):
    """Return the archive, holding a real map; with a cache of its own."""
    archive.files[stand_in.MAP] = gzip.compress(blob.read_bytes(), mtime=0)
    monkeypatch.setenv("OCCUPY_CACHE", str(tmp_path / "cache"))
    return archive


def test_fetch_says_what_the_entry_is_and_where(cli, emdb, tmp_path, work):
    said = cli("fetch", "EMD-3061")
    path = tmp_path / "cache" / "emdb" / "EMD-3061" / "emd_3061.map.gz"
    assert (said.code, said.err) == (0, "")
    title = "EMD-3061: gamma-secretase, apo, contour level 0.041, 3.4 Å"
    assert said.out.splitlines() == [title, f"  {path}"]
    assert path.read_bytes() == emdb.files[stand_in.MAP]
    asked = len(emdb.requests)
    assert cli("fetch", "emd_3061", "--quiet").out == ""
    assert len(emdb.requests) == asked  # from the cache


def test_fetch_to_a_folder_with_half_maps(cli, emdb, work):
    for path in HALVES:
        emdb.files[path] = emdb.files[stand_in.MAP]
    said = cli("fetch", "3061", "-o", "here", "--half-maps")
    assert said.code == 0
    names = {p.name for p in (work / "here" / "EMD-3061").iterdir() if p.name.endswith(".gz")}
    assert names == {"emd_3061.map.gz", "emd_3061_half_map_1.map.gz", "emd_3061_half_map_2.map.gz"}
    assert all(name in said.out for name in names)


def test_an_entry_without_half_maps(cli, emdb, work):
    said = cli("fetch", "3061", "--half-maps")
    assert said.code == 0
    assert "no half-maps" in said.out


def test_estimate_an_entry_at_its_contour_level(cli, emdb, work, result):
    said = cli("estimate", "EMD-3061", "--quiet")
    assert (said.code, said.out, said.err) == (0, "", "")
    got = result(work / "occupy_emd_3061", "emd_3061")
    assert "level 0.041\n" in got.script
    assert got.record["options"]["level"] == 0.041
    assert got.record["inputs"]["map"]["path"].endswith("EMD-3061/emd_3061.map.gz")
    # What the user says counts more.
    assert cli("EMD-3061", "--quiet", "--level", 0.3, "-o", "mine").code == 0
    assert "level 0.3\n" in result(work / "mine", "emd_3061").script


def test_the_older_spelling(cli, emdb, work, result):
    for name in ("3061", "EMD-3061", "emd_3061"):
        assert cli("--emdb", name, "-o", name, "--quiet", "--tile-size", 8).code == 0
        assert "level 0.041\n" in result(work / name, "emd_3061").script


def test_a_folder_of_the_entrys_name_is_not_taken_for_the_map(cli, emdb, work):
    """As `occupy fetch -o .` leaves it."""
    assert cli("fetch", "EMD-3061", "-o", ".", "--quiet").code == 0
    assert (work / "EMD-3061").is_dir()
    assert cli("estimate", "EMD-3061", "--quiet").code == 0
    assert (work / "occupy_emd_3061" / "emd_3061_scale.mrc").exists()


def test_a_file_of_the_entrys_name_is_taken(cli, emdb, blob, work):
    (work / "EMD-3061").write_bytes(blob.read_bytes())
    assert cli("estimate", "EMD-3061", "--quiet").code == 0
    assert (work / "occupy_EMD-3061" / "EMD-3061_scale.mrc").exists()
    assert emdb.requests == []


def test_among_files(cli, emdb, blob, work):
    said = cli("EMD-3061", blob, "EMD-9999", "--quiet")
    assert said.code == 1
    lines = said.err.splitlines()
    assert lines[0].startswith("occupy: error: EMD-9999: no such entry in the archive")
    assert lines[1:] == ["occupy: error: 1 of 3 maps failed: EMD-9999"]
    assert {p.name for p in work.iterdir()} == {"occupy_emd_3061", "occupy_blob"}


def test_failures_are_one_line(cli, the_error, emdb, work):
    assert "EMD-9999: no such entry" in the_error(cli("fetch", "EMD-9999"))
    assert "'protein' is not an EMDB entry" in the_error(cli("fetch", "protein"))
    emdb.files[stand_in.MAP] = b"not gzip at all"
    the_error(cli("estimate", "EMD-3061"))
    assert not list(work.iterdir())


def test_a_damaged_header_costs_the_level_only(cli, emdb, work, result):
    emdb.files[stand_in.HEADER] = b"<emd><map>"
    said = cli("estimate", "EMD-3061")
    assert said.code == 0
    assert all(line.startswith("occupy: warning: ") for line in said.err.splitlines())
    assert len([line for line in said.err.splitlines() if "ORIGIN" not in line]) == 1
    assert result(work / "occupy_emd_3061", "emd_3061").record["options"]["level"] is None
