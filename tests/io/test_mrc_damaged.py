"""Damaged maps of any kind: a Volume or one line, at once, in little memory."""

import bz2
import gzip
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occupy.errors import InputError
from occupy.io.mrc import read_map
from strategies import content, header


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


def damaged(path, raw):
    """Read whatever this is: only an InputError of one line may come of it."""
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        before = time.process_time()
        try:
            volume = read_map(path)
        except InputError as error:
            text = str(error)
            if "\n" in text or str(path) not in text:
                pytest.fail(f"not one line about the file: {text!r}")
        else:
            assert volume.data.size > 0
            assert all(a > 0 for a in volume.voxel_size)
        # No header makes it loop. (Processor time, since other work may share the machine.)
        assert time.process_time() - before < 20
        assert tracemalloc.get_traced_memory()[1] < 64 * len(raw) + 3_000_000
    finally:
        tracemalloc.stop()


PLAIN = content(np.random.default_rng(0).normal(size=(6, 5, 4)), extended=b"some text")
BIG_ENDIAN = content(np.arange(120).reshape(6, 5, 4), 1, ">")
BYTES = content(np.arange(120).reshape(6, 5, 4) - 60, 0)
KINDS = [PLAIN, BIG_ENDIAN, BYTES]
PACKED = [gzip.compress(PLAIN, mtime=0), bz2.compress(PLAIN), gzip.compress(BYTES, mtime=0)]

# Bytes that mean something get most of the damage; the labels and the spare room get some.
offsets = st.one_of(st.integers(0, 255), st.integers(0, 1023))
telling = st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF])
damages = st.lists(st.tuples(offsets, st.one_of(telling, st.integers(0, 255))), min_size=1, max_size=8)


@settings(max_examples=400)
@given(st.sampled_from(KINDS), damages, st.sampled_from([bytes, gzip.compress, bz2.compress]))
def test_damaged_headers(folder, raw, damage, pack):
    changed = bytearray(raw)
    for offset, value in damage:
        changed[offset] = value
    damaged(folder / "header.mrc", pack(bytes(changed)))


NAN, SIGNALLING, INFINITE = 0x7FC00000, 0x7F800001, 0x7F800000
words = st.sampled_from([0, 1, -1, 3, 4, 101, 32768, 32769, 2**31 - 1, -(2**31), NAN, SIGNALLING, INFINITE])
STARTS = [b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00\0\0\0\0\0\xff", b"BZh", b"BZh91AY&SY"]


@settings(max_examples=200)
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 55), words), min_size=1, max_size=4),
    st.booleans(),
)
def test_headers_with_telling_words(folder, raw, damage, zipped):
    """Zero, negative, enormous sizes; NaN (also signalling) and infinity where floats are."""
    changed = bytearray(raw)
    for word, value in damage:
        changed[4 * word : 4 * word + 4] = np.array(value, "<i8").astype("<i4").tobytes()
    damaged(folder / "words.mrc", gzip.compress(bytes(changed), 1) if zipped else bytes(changed))


@settings(max_examples=150)
@given(st.sampled_from(KINDS + PACKED), st.data())
def test_truncation_anywhere(folder, raw, data):
    damaged(folder / "cut.mrc", raw[: data.draw(st.integers(0, len(raw)))])


@settings(max_examples=150)
@given(st.sampled_from(STARTS), st.binary(max_size=3000))
def test_random_bytes(folder, start, rest):
    damaged(folder / "random.mrc", start + rest)


@settings(max_examples=150)
@given(st.binary(min_size=1024, max_size=1024), st.sampled_from([1, 2]), st.sampled_from("<>"))
def test_random_headers_with_plausible_sizes(folder, noise, side, order):
    raw = bytearray(noise)
    raw[0:16] = np.array([side, side, side, 2], dtype=f"{order}i4").tobytes()
    damaged(folder / "noise.mrc", bytes(raw) + b"\0" * 64)


@settings(max_examples=300)
@given(
    st.sampled_from(PACKED), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_damaged_compressed_files(folder, raw, damage):
    changed = bytearray(raw)
    for place, value in damage:
        changed[min(int(place * len(raw)), len(raw) - 1)] = value
    damaged(folder / "packed.mrc.gz", bytes(changed))


def reading(path, raw):
    path.write_bytes(raw)
    return read_map(path).data


@pytest.mark.parametrize("raw", PACKED)
def test_a_damaged_compressed_file_never_gives_other_values(folder, raw):
    """The checksum is verified: every flipped byte in the stream is noticed."""
    good = reading(folder / "good.gz", raw)
    for place in range(10, len(raw), max(1, len(raw) // 120)):
        changed = bytearray(raw)
        changed[place] ^= 0x55
        try:
            found = reading(folder / "flipped.gz", changed)
        except InputError:
            continue
        np.testing.assert_array_equal(found, good)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("mode", [0, 2])
def test_a_header_that_claims_a_huge_map_fails_at_once(tmp_path, pack, mode):
    raw = header((32768, 32768, 32768), mode).tobytes() + np.random.default_rng(0).bytes(50_000)
    path = tmp_path / "a.mrc"
    path.write_bytes(pack(raw))
    tracemalloc.start()
    try:
        before = time.process_time()
        with pytest.raises(InputError, match="truncated"):
            read_map(path)
        assert time.process_time() - before < 20
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
