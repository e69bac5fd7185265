"""Fetching entries from EMDB, against a stand-in for the archive (see conftest.py)."""

from __future__ import annotations

import gzip
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from occupy.errors import DownloadError, InputError, OutputError
from occupy.io import download, emdb
from occupy.io.emdb import EmdbEntry, fetch, looks_like_entry_id, normalise_entry_id

if TYPE_CHECKING:
    from .conftest import Archive

MAP = "/EMD-3061/map/emd_3061.map.gz"
HEADER = "/EMD-3061/header/emd-3061.xml"
HALVES = tuple(f"/EMD-3061/other/emd_3061_half_map_{n}.map.gz" for n in (1, 2))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def forbid_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "create_connection", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)


# --- identifiers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["EMD-3061", "emd-3061", "emd_3061", "3061", "EMD3061", " EMD-3061\n", "03061"]
)
def test_spellings_of_an_identifier(text: str) -> None:
    assert normalise_entry_id(text) == "EMD-3061"


def test_identifiers_have_at_least_four_digits() -> None:
    assert normalise_entry_id("EMD-0406") == normalise_entry_id("emd-406") == "EMD-0406"
    assert normalise_entry_id("EMD-12345") == "EMD-12345"


@pytest.mark.parametrize(
    "text", ["", "EMD-", "EMD-0", "emd-3061.map", "EMD--3061", "x3061", "../3061", "٣٠٦١"]
)
def test_no_identifier(text: str) -> None:
    with pytest.raises(InputError) as caught:
        normalise_entry_id(text)
    assert repr(text) in one_line(caught.value)
    assert not looks_like_entry_id(text)


def test_a_bare_number_may_be_a_file() -> None:
    assert looks_like_entry_id("emd-3061")
    assert looks_like_entry_id("EMD_3061")
    assert not looks_like_entry_id("3061")


# --- the usual way ------------------------------------------------------------------------------------


def test_fetch_brings_map_and_header(archive: Archive, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    entry = fetch("emd_3061", tmp_path, progress=lambda *step: seen.append(step))
    folder = tmp_path / "EMD-3061"
    expected = folder / "emd_3061.map.gz"
    assert entry == EmdbEntry("EMD-3061", expected, (), 0.041, 3.4, "gamma-secretase, apo")
    assert gzip.decompress(expected.read_bytes()) == archive.content
    assert names(folder) == {"emd_3061.map.gz", "emd-3061.xml"}
    of_map = [step[1:] for step in seen if step[0] == "emd_3061.map.gz"]
    assert of_map[0] == (0, len(archive.packed))
    assert of_map[-1] == (len(archive.packed), len(archive.packed))
    assert of_map == sorted(of_map)


def test_half_maps(archive: Archive, tmp_path: Path) -> None:
    packed = [gzip.compress(b"half 1"), gzip.compress(b"half 2")]
    archive.files |= dict(zip(HALVES, packed, strict=True))
    assert fetch("EMD-3061", tmp_path).half_map_paths == ()
    assert not archive.asked(HALVES[0])
    entry = fetch("EMD-3061", tmp_path, half_maps=True)
    assert [path.read_bytes() for path in entry.half_map_paths] == packed
    assert len(archive.asked(MAP)) == 1


@pytest.mark.parametrize("present", [(), HALVES[:1]])
def test_no_half_maps_is_remembered(archive: Archive, tmp_path: Path, present: tuple[str, ...]) -> None:
    archive.files |= dict.fromkeys(present, archive.packed)
    assert fetch("EMD-3061", tmp_path, half_maps=True).half_map_paths == ()
    count = len(archive.requests)
    assert fetch("EMD-3061", tmp_path, half_maps=True).half_map_paths == ()
    assert len(archive.requests) == count


def test_a_cached_entry_needs_no_network(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.files |= dict.fromkeys(HALVES, archive.packed)
    first = fetch("EMD-3061", tmp_path, half_maps=True)
    forbid_connections(monkeypatch)
    assert fetch("3061", tmp_path, half_maps=True) == first
    assert len(archive.requests) == 4


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OCCUPY_CACHE": "{tmp}/own", "XDG_CACHE_HOME": "{tmp}/xdg"}, "own/emdb"),
        ({"XDG_CACHE_HOME": "{tmp}/xdg"}, "xdg/occupy/emdb"),
        ({"XDG_CACHE_HOME": "relative/is/ignored"}, "home/.cache/occupy/emdb"),
        ({}, "home/.cache/occupy/emdb"),
    ],
)
def test_default_cache(
    archive: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    expected: str,
) -> None:
    for name in ("OCCUPY_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    assert fetch("EMD-3061").map_path == tmp_path / expected / "EMD-3061" / "emd_3061.map.gz"


def test_no_such_entry(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch("EMD-9999", tmp_path)
    url = f"{archive.url}/EMD-9999/map/emd_9999.map.gz"
    assert str(caught.value) == f"EMD-9999: no such entry in the archive ({url})"
    assert len(archive.requests) == 1


# --- the header ---------------------------------------------------------------------------------------

BILLION_LAUGHS = b"""<!DOCTYPE emd [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<emd><admin><title>&b;</title></admin></emd>"""


def test_a_missing_header_is_remembered(archive: Archive, tmp_path: Path) -> None:
    del archive.files[HEADER]
    for _ in range(2):
        entry = fetch("EMD-3061", tmp_path)
        assert (entry.contour_level, entry.resolution, entry.title) == (None, None, None)
    assert len(archive.requests) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"<emd><map>", BILLION_LAUGHS, b'<?xml version="1.0" encoding="no-such"?><emd/>', b"<html/>"],
)
def test_an_unusable_header_is_not_kept(
    archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    good, archive.files[HEADER] = archive.files[HEADER], body
    with caplog.at_level(logging.WARNING):
        entry = fetch("EMD-3061", tmp_path)
    assert (entry.contour_level, entry.resolution, entry.title) == (None, None, None)
    assert [HEADER in record.message for record in caplog.records] == [True]
    assert names(entry.map_path.parent) == {"emd_3061.map.gz"}
    archive.files[HEADER] = good
    assert fetch("EMD-3061", tmp_path).contour_level == 0.041


def test_a_doctype_is_the_reason_given() -> None:
    with pytest.raises(download.DamagedError, match="document type"):
        emdb._parse_header(BILLION_LAUGHS)


def test_an_endless_header_is_given_up(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emdb, "_HEADER_LIMIT_BYTES", 100)
    assert fetch("EMD-3061", tmp_path).title is None


@pytest.mark.parametrize("text", ["", "high", "nan", "-inf"])
def test_numbers_that_are_none(text: str) -> None:
    xml = f"<emd><map><contour_list><contour><level>{text}</level></contour></contour_list></map></emd>"
    assert emdb._parse_header(xml.encode()).contour_level is None


def test_the_older_schema() -> None:
    header = emdb._parse_header(
        b"<emdEntry><deposition><title>T</title></deposition><map><contourLevel>-1.5</contourLevel></map>"
        b"<processing><reconstruction><resolutionByAuthor>8</resolutionByAuthor></reconstruction></processing>"
        b"</emdEntry>"
    )
    assert (header.contour_level, header.resolution, header.title) == (-1.5, 8.0, "T")


# --- what is refused or cannot be ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://ftp.ebi.ac.uk/pub",
        "http://127.0.0.1.example.org",
        "http://localhost@example.org",
        "ftp://localhost",
        "file:///etc",
        "https://",
        "https://host:port",
        "https://[broken",
        "https://ho st/",
        "nonsense",
    ],
)
def test_an_unsafe_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    forbid_connections(monkeypatch)
    with pytest.raises(InputError) as caught:
        fetch("EMD-3061", tmp_path, base_url=url)
    assert repr(url) in one_line(caught.value)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("wrong", [{"timeout": 0.0}, {"timeout": float("nan")}, {"retries": -1}])
def test_settings_without_sense(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=str(next(iter(wrong.values())))):
        fetch("EMD-3061", tmp_path, **wrong)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_cache_that_cannot_be_made(archive: Archive, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught:
        fetch("EMD-3061", tmp_path / "file" / below)
    assert str(tmp_path / "file" / below) in one_line(caught.value)
    assert not archive.requests
