"""What can go wrong on the way, against a stand-in for the archive that misbehaves (see conftest.py)."""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import threading
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from occupy.errors import DownloadError, OutputError
from occupy.io import download, emdb
from occupy.io.emdb import EmdbEntry, fetch

if TYPE_CHECKING:
    from .conftest import Archive

MAP = "/EMD-3061/map/emd_3061.map.gz"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def one_line(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    return text


# --- broken connections -------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_connection_is_resumed(archive: Archive, tmp_path: Path, chunked: bool) -> None:
    archive.chunked = chunked
    archive.fail(MAP, cut_after=1000)
    entry = fetch("EMD-3061", tmp_path)
    assert entry.map_path.read_bytes() == archive.packed
    assert archive.asked(MAP) == [(None, None), ("bytes=1000-", '"v1"')]
    assert names(entry.map_path.parent) == {"emd_3061.map.gz", "emd-3061.xml"}


def test_a_later_run_resumes(archive: Archive, tmp_path: Path) -> None:
    archive.fail(MAP, cut_after=1000)
    archive.fail(MAP, cut_after=500)
    with pytest.raises(DownloadError, match=f"closed after 1500 of {len(archive.packed)} bytes") as caught:
        fetch("EMD-3061", tmp_path, retries=1)
    assert MAP in one_line(caught.value)
    part = tmp_path / "EMD-3061" / "emd_3061.map.gz.part"
    assert part.read_bytes() == archive.packed[:1500]
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed
    assert archive.asked(MAP)[-1] == ("bytes=1500-", '"v1"')


def test_interruption_leaves_the_part(archive: Archive, tmp_path: Path) -> None:
    def interrupt(label: str, done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    archive.fail(MAP, cut_after=1000)
    with pytest.raises(KeyboardInterrupt):
        fetch("EMD-3061", tmp_path, progress=interrupt)
    assert (tmp_path / "EMD-3061" / "emd_3061.map.gz.part").read_bytes() == archive.packed[:1000]
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed
    assert archive.asked(MAP)[-1] == ("bytes=1000-", '"v1"')


def test_interruption_during_the_check_downloads_nothing_again(archive: Archive, tmp_path: Path) -> None:
    def interrupt(label: str, done: int, total: int | None) -> None:
        if label.startswith("checking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("EMD-3061", tmp_path, progress=interrupt)
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed
    assert len(archive.asked(MAP)) == 1


def test_a_server_without_ranges_starts_again(archive: Archive, tmp_path: Path) -> None:
    archive.ranges = False
    archive.fail(MAP, cut_after=1000)
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed
    assert archive.asked(MAP)[1] == ("bytes=1000-", '"v1"')


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_version_nothing_is_continued(archive: Archive, tmp_path: Path, etag: str | None) -> None:
    archive.etag = etag
    archive.fail(MAP, cut_after=1000)
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed
    assert archive.asked(MAP) == [(None, None)] * 2


def test_a_changed_file_is_not_mixed_with_the_old(archive: Archive, tmp_path: Path) -> None:
    archive.fail(MAP, cut_after=1000)
    with pytest.raises(DownloadError):
        fetch("EMD-3061", tmp_path, retries=0)
    archive.files[MAP], archive.etag = gzip.compress(archive.content[::-1]), '"v2"'
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.files[MAP]


def test_a_wrong_range_is_refused(archive: Archive, tmp_path: Path) -> None:
    archive.fail(MAP, cut_after=1000)
    archive.range_shift = 7
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed
    assert [asked[0] for asked in archive.asked(MAP)] == [None, "bytes=1000-", None]


def test_a_range_the_server_cannot_give_starts_again(archive: Archive, tmp_path: Path) -> None:
    archive.fail(MAP, cut_after=1000)
    archive.fail(MAP, status=416)
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed
    assert archive.asked(MAP)[-1] == (None, None)


@pytest.mark.parametrize("note", ["", "[]", '{"url": 1}', "\udcff"])
def test_a_spoilt_note_starts_again(archive: Archive, tmp_path: Path, note: str) -> None:
    folder = tmp_path / "EMD-3061"
    folder.mkdir()
    (folder / "emd_3061.map.gz.part").write_bytes(b"who knows")
    (folder / "emd_3061.map.gz.part.json").write_bytes(note.encode(errors="surrogateescape"))
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed


def test_a_wrong_length_is_noticed(archive: Archive, tmp_path: Path) -> None:
    archive.fail(MAP, extra_length=5)
    with pytest.raises(
        DownloadError, match=f"after {len(archive.packed)} of {len(archive.packed) + 5} bytes"
    ):
        fetch("EMD-3061", tmp_path, retries=0)
    assert not (tmp_path / "EMD-3061" / "emd_3061.map.gz").exists()


# --- the server's errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_servers_passing_error_is_tried_again(archive: Archive, tmp_path: Path, status: int) -> None:
    archive.fail(MAP, status=status)
    archive.fail(MAP, status=status)
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed


def test_a_servers_lasting_error_ends_it(archive: Archive, tmp_path: Path) -> None:
    for _ in range(9):
        archive.fail(MAP, status=502)
    with pytest.raises(DownloadError, match="502"):
        fetch("EMD-3061", tmp_path, retries=2)
    assert len(archive.requests) == 3


def test_circular_redirections_end_in_one_line(archive: Archive, tmp_path: Path) -> None:
    for _ in range(20):
        archive.fail(MAP, status=302, location=MAP)
    with pytest.raises(DownloadError, match="302") as caught:
        fetch("EMD-3061", tmp_path)
    assert MAP in one_line(caught.value)


def test_a_forbidden_file_is_not_tried_again(archive: Archive, tmp_path: Path) -> None:
    archive.fail(MAP, status=403)
    with pytest.raises(DownloadError, match="403"):
        fetch("EMD-3061", tmp_path)
    assert len(archive.requests) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: b"",
        lambda packed: b"<html>please log in</html>",
        lambda packed: packed[:-9],
        lambda packed: packed[:-8] + bytes(8),
        lambda packed: packed + b"more",
    ],
    ids=["empty", "web page", "cut short", "wrong checksum", "more behind"],
)
def test_a_damaged_map_is_not_kept(archive: Archive, tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    archive.files[MAP] = spoil(archive.packed)
    with pytest.raises(DownloadError, match="damaged") as caught:
        fetch("EMD-3061", tmp_path)
    assert MAP in one_line(caught.value)
    assert names(tmp_path / "EMD-3061") == set()
    archive.files[MAP] = archive.packed
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed


# --- addresses and certificates -----------------------------------------------------------------------


def test_a_redirection_to_plain_http_is_not_followed(archive: Archive, tmp_path: Path) -> None:
    archive.fail(MAP, status=302, location="http://example.org/map.gz")
    with pytest.raises(DownloadError, match=r"http://example\.org/map\.gz.*not followed"):
        fetch("EMD-3061", tmp_path)
    archive.fail(MAP, status=302, location=f"{archive.url}{MAP}")
    assert fetch("EMD-3061", tmp_path).map_path.read_bytes() == archive.packed


def test_certificates_are_checked() -> None:
    opener = download.build_opener(emdb.DEFAULT_BASE_URL)
    (handler,) = [h for h in vars(opener)["handlers"] if type(h).__name__ == "HTTPSHandler"]
    context: ssl.SSLContext = handler._context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


class FailingOpener:
    """Stands in for the network where a real failure cannot be had quickly."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def open(self, *args: object, **kwargs: object) -> None:
        raise self.errors.pop(0)


def certificate_error() -> Exception:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return urllib.error.URLError(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (certificate_error(), ["ftp.ebi.ac.uk", "self-signed certificate", "not ignored", "SSL_CERT_FILE"]),
        (urllib.error.URLError(socket.gaierror(-3, "Name resolution failed")), ["Name resolution", "online"]),
    ],
)
def test_no_way_to_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: list[str]
) -> None:
    monkeypatch.delenv("OCCUPY_EMDB_URL", raising=False)
    monkeypatch.setattr(emdb, "build_opener", lambda base: FailingOpener(error))
    with pytest.raises(DownloadError) as caught:
        fetch("EMD-3061", tmp_path)
    assert all(word in one_line(caught.value) for word in words)


def test_a_closed_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match=r"cannot reach 127\.0\.0\.1"):
        fetch("EMD-3061", tmp_path, base_url=f"http://127.0.0.1:{port}")


def test_a_silent_server_times_out(archive: Archive, tmp_path: Path) -> None:
    archive.hold = threading.Event()
    try:
        with pytest.raises(DownloadError, match="timed out"):
            fetch("EMD-3061", tmp_path, timeout=0.05, retries=1)
    finally:
        archive.hold.set()
    assert len(archive.requests) == 2


# --- the cache ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk(archive: Archive, tmp_path: Path) -> None:
    folder = tmp_path / "EMD-3061"
    folder.mkdir()
    (folder / "emd_3061.map.gz.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device") as caught:
        fetch("EMD-3061", tmp_path)
    assert str(folder) in one_line(caught.value)
    assert len(archive.requests) == 1


def test_two_at_once_download_once(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("fcntl")
    archive.hold = threading.Event()
    entries: list[EmdbEntry] = []
    threads = [threading.Thread(target=lambda: entries.append(fetch("EMD-3061", tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(400):  # until both others wait, so that the test tests what it says
        if sum("waiting" in record.message for record in caplog.records) == 2:
            break
        threading.Event().wait(0.005)
    archive.hold.set()
    for thread in threads:
        thread.join()
    assert entries == [entries[0]] * 3
    assert len(archive.requests) == 2
    assert entries[0].map_path.read_bytes() == archive.packed


def test_without_locks_parts_are_private(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_wait_for_lock", lambda *args: False)
    parts: set[str] = set()

    def look(label: str, done: int, total: int | None) -> None:
        parts.update(name for name in names(tmp_path / "EMD-3061") if name.endswith(".part"))

    assert fetch("EMD-3061", tmp_path, progress=look).map_path.read_bytes() == archive.packed
    assert len(parts) == 2
    assert "emd_3061.map.gz.part" not in parts


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_l12_a_redirection_to_no_address_is_one_line(archive: Archive, tmp_path: Path, status: int) -> None:
    archive.fail(MAP, status=status, location="http://[")
    with pytest.raises(DownloadError, match=r"points to what is no address") as caught:
        fetch("EMD-3061", tmp_path)
    one_line(caught.value)
