"""A checksum is of the bytes that were read or written, whatever happens to the file meanwhile."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.errors import InputError
from occupy.io import checksum, mrc
from occupy.io.checksum import FileSum, is_as_written, reading, sha256_of, written
from occupy.io.mrc import open_writer, read_map, read_source, write_map
from occupy.volume import Volume

VOLUME = Volume.from_array(np.random.default_rng(1).standard_normal((9, 8, 7)).astype(np.float32), 1.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_map(tmp_path / "m.mrc", VOLUME)
    return tmp_path / "m.mrc"


def plain(raw: bytes) -> bytes:
    return raw


def with_a_tail(raw: bytes) -> bytes:
    return raw + b"left over"


def with_an_odd_extended_header(raw: bytes) -> bytes:
    return raw[:92] + (5).to_bytes(4, "little") + raw[96:1024] + b"12345" + raw[1024:]


def of_whole_numbers(raw: bytes) -> bytes:
    data = (100 * VOLUME.data).astype("<i2").tobytes()
    return raw[:12] + (1).to_bytes(4, "little") + raw[16:1024] + data


@pytest.mark.parametrize(
    "kind", [plain, with_a_tail, with_an_odd_extended_header, of_whole_numbers, gzip.compress]
)
def test_the_checksum_of_what_was_read_is_the_files(path, kind):
    raw = kind(path.read_bytes())
    path.write_bytes(raw)
    volume, source = read_source(path)
    assert np.array_equal(volume.data, read_map(path).data)
    assert source.sha256 == hashlib.sha256(raw).hexdigest()
    assert source.stamp.size == len(raw)
    assert source.is_as_read


def test_h03_a_file_replaced_while_it_is_open_has_the_checksum_of_what_was_read(path, monkeypatch):
    old = path.read_bytes()
    payload = mrc._payload

    def replaced(*given):
        write_map(path, VOLUME.with_data(VOLUME.data + 1))
        return payload(*given)

    monkeypatch.setattr(mrc, "_payload", replaced)
    volume, source = read_source(path)
    assert np.array_equal(volume.data, VOLUME.data)
    assert source.sha256 == hashlib.sha256(old).hexdigest() != sha256_of(path)
    assert not source.is_as_read


@pytest.mark.parametrize("kept", [0, 1024, 300_000])
def test_m13_a_file_cut_short_while_it_is_read_is_one_line(path, monkeypatch, kept):
    # More than any buffer holds that was filled before.
    write_map(path, Volume.from_array(np.ones((80, 80, 80), np.float32), 1.5))
    payload = mrc._payload

    def cut(*given):
        os.truncate(path, kept)
        return payload(*given)

    monkeypatch.setattr(mrc, "_payload", cut)
    with pytest.raises(InputError, match="truncated") as caught:
        read_map(path)
    assert str(path) in str(caught.value)


def test_m13_a_map_that_was_read_does_not_change_with_its_file(path):
    volume = read_map(path)
    os.truncate(path, 0)
    assert np.array_equal(volume.data, VOLUME.data)


@pytest.mark.parametrize("kind", [plain, gzip.compress])
def test_a_file_written_to_while_it_is_read_is_refused(path, monkeypatch, kind):
    path.write_bytes(kind(path.read_bytes()))
    os.utime(path, ns=(0, 0))  # no clock is so coarse that the change is missed
    payload = mrc._payload

    def changed(*given):
        data = payload(*given)
        with path.open("r+b") as stream:
            stream.write(path.read_bytes()[:4])
        return data

    monkeypatch.setattr(mrc, "_payload", changed)
    with pytest.raises(InputError, match="changed while it was read"):
        read_map(path)


def test_l08_a_file_removed_while_it_is_read_was_read(path, monkeypatch):
    wanted, payload = sha256_of(path), mrc._payload

    def removed(*given):
        path.unlink()
        return payload(*given)

    monkeypatch.setattr(mrc, "_payload", removed)
    volume, source = read_source(path)
    assert np.array_equal(volume.data, VOLUME.data)
    assert source.sha256 == wanted
    assert not source.is_as_read


def test_a_file_that_changes_while_it_is_hashed_has_no_checksum(path, monkeypatch):
    path.write_bytes(gzip.compress(path.read_bytes()))
    os.utime(path, ns=(0, 0))
    read_at = checksum._read_at

    def changed(*given):
        path.write_bytes(b"something else")
        return read_at(*given)

    monkeypatch.setattr(checksum, "_read_at", changed)
    _, source = read_source(path)
    with pytest.raises(InputError, match="changed while it was read"):
        source.sha256  # noqa: B018


@pytest.mark.parametrize("number", ["EIO", "ESTALE", "ENODEV"])
def test_a_file_that_goes_away_with_its_disk_is_one_line(path, monkeypatch, number):
    import errno

    def gone(*_):
        code = getattr(errno, number)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(mrc, "_payload", gone)
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_map(path)
    assert "\n" not in str(caught.value)


def test_the_checksum_of_what_was_written_is_the_files(tmp_path):
    path = tmp_path / "w.mrc"
    with open_writer(path, VOLUME, checksum=True) as writer:
        for start in (6, 0, 3):
            writer.write_planes(start, VOLUME.data[start : start + 3])
    assert writer.file is not None
    wanted = {"bytes": path.stat().st_size, "crc32": f"{zlib.crc32(path.read_bytes()):08x}"}
    assert writer.file.about() == wanted == written(path)
    assert is_as_written(path, wanted)
    assert read_source(path, kind="crc32")[1].checksum.hexdigest() == wanted["crc32"]
    whole = write_map(path, VOLUME, checksum=True)
    assert isinstance(whole, FileSum)
    assert whole.about() == written(path)


@given(st.lists(st.binary(max_size=40), max_size=8), st.randoms(use_true_random=False))
def test_a_checksum_can_be_put_together_from_parts(parts, random):
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    told = [
        (start, (len(part), zlib.crc32(part))) for start, part in zip(starts, parts, strict=False) if part
    ]
    random.shuffle(told)
    raw = b"".join(parts)
    assert FileSum.of_parts(dict(told)) == FileSum(len(raw), zlib.crc32(raw))


def test_what_another_library_reads_must_not_change_meanwhile(tmp_path):
    path = tmp_path / "model.cif"
    path.write_text("data_x")
    os.utime(path, ns=(0, 0))
    with reading(path) as about:
        assert about == {"path": str(path), "sha256": sha256_of(path), "bytes": 6}
    with pytest.raises(InputError, match="changed while it was read"), reading(path):
        path.write_text("data_y")
    with pytest.raises(InputError, match="no such file"), reading(tmp_path / "none"):
        pass
