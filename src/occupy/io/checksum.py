"""Checksums of the bytes that were read or written, not of what lies under a name by then.

Inputs have SHA-256: by it anyone can tell which file an estimate was made of. Outputs, of which there are
several times as many bytes, have CRC-32 and their size: enough to tell a file that was cut short, replaced or
changed from the one that was written, for half the processor time (3.0 GB/s beside 1.6 GB/s).
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.atomic import read_errors

_PIECE = 1 << 18


ChecksumKind = Literal["sha256", "crc32"]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file, as ``sha256sum`` prints it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _crc32_of(path: Path) -> str:
    """Return the CRC-32 checksum of a file, as ``gzip`` and ``zip`` use it."""
    found = _Crc32()
    buffer = memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            found.update(buffer[:count])
    return found.hexdigest()


class _Crc32:
    """CRC-32 with the methods of `hashlib`."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Any) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


@dataclass(frozen=True)
class Stamp:
    """What the file system says of a file; another stamp means that the file is another or was changed.

    Attributes
    ----------
    device, inode : int
        Which file.
    size : int
        Bytes.
    changed_ns : int
        When its content was changed last, in nanoseconds.
    """

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, file: int | Path) -> Stamp:
        """Return the stamp of an open file (by its descriptor) or of what lies under a name."""
        found = os.fstat(file) if isinstance(file, int) else file.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class _Checksum:
    """_Checksum of bytes that is worked out on a thread of its own.

    A map that is estimated on one thread leaves a core idle, and hashing frees the interpreter lock.

    Parameters
    ----------
    pieces : callable
        Yields the bytes, in order; called on the thread.
    kind : {"sha256", "crc32"}
        Which.
    """

    def __init__(self, pieces: Callable[[], Iterable[Any]], kind: ChecksumKind = "sha256") -> None:
        self._hash: Any = hashlib.sha256() if kind == "sha256" else _Crc32()
        self._error: Exception | None = None
        # A daemon: a program that is stopped does not wait for checksums.
        self._thread = threading.Thread(target=self._run, args=(pieces,), daemon=True)
        self._thread.start()

    def _run(self, pieces: Callable[[], Iterable[Any]]) -> None:
        try:
            for piece in pieces():
                self._hash.update(piece)
        except Exception as error:  # handed to whoever asks for the checksum
            self._error = error

    def hexdigest(self) -> str:
        """Wait for the checksum and return it; raise what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return str(self._hash.hexdigest())


def _read_at(descriptor: int, buffer: memoryview, start: int) -> int:
    """Fill a buffer from a place in a file on; return how many bytes there were."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], start)
    os.lseek(descriptor, start, os.SEEK_SET)
    found = os.read(descriptor, len(buffer))
    buffer[: len(found)] = found
    return len(found)


def _checksum_of_open(descriptor: int, path: Path, stamp: Stamp, kind: ChecksumKind = "sha256") -> _Checksum:
    """Start on the checksum of an open file, which may be closed, renamed or removed meanwhile.

    Parameters
    ----------
    descriptor : int
        Of the open file.
    path : Path
        Its name, for messages.
    stamp : Stamp
        Of the file when it was read or written; InputError (from `_Checksum.hexdigest`) where it has another
        by the end.
    kind : {"sha256", "crc32"}
        Which.
    """
    kept = os.dup(descriptor)

    def pieces() -> Iterator[memoryview]:
        # One buffer that stays in the processor's cache: new memory for every piece costs more than reading.
        buffer = memoryview(bytearray(_PIECE))
        start = 0
        try:
            with read_errors(path):
                while count := _read_at(kept, buffer, start):
                    yield buffer[:count]
                    start += count
            refuse_changed(kept, path, stamp)
        finally:
            os.close(kept)

    return _Checksum(pieces, kind)


def refuse_changed(file: int | Path, path: Path, stamp: Stamp) -> None:
    """Raise InputError where a file is no longer what it was when it was opened."""
    try:
        same = Stamp.of(file) == stamp
    except OSError:
        same = False
    if not same:
        raise InputError(f"{path}: the file changed while it was read; run again when it is complete")


@dataclass(frozen=True, eq=False)
class ReadFile:
    """A file that was read, as it was then.

    Attributes
    ----------
    path : Path
        Its name.
    stamp : Stamp
        Of the file that was open.
    checksum : _Checksum
        Of the bytes that were read.
    """

    path: Path
    stamp: Stamp
    checksum: _Checksum

    @property
    def sha256(self) -> str:
        """_Checksum of what was read, if that is of this kind."""
        return self.checksum.hexdigest()

    @property
    def is_as_read(self) -> bool:
        """Whether what lies under the name is still what was read."""
        try:
            return Stamp.of(self.path) == self.stamp
        except OSError:
            return False

    @classmethod
    def of_open(
        cls,
        descriptor: int,
        path: Path,
        stamp: Stamp,
        data: npt.NDArray[Any],
        begin: int | None,
        kind: ChecksumKind = "sha256",
    ) -> ReadFile:
        """Start on the checksum of an open map that was read.

        Parameters
        ----------
        descriptor, path, stamp, kind
            As for `_checksum_of_open`.
        data : ndarray
            What was read; must not change.
        begin : int or None
            Where the data begin in the file, if they are there as they are in memory.
        """
        if begin is None or begin + data.nbytes != stamp.size:
            return cls(path, stamp, _checksum_of_open(descriptor, path, stamp, kind))
        head = memoryview(bytearray(begin))
        _read_at(descriptor, head, 0)
        # What is in memory is hashed: it is what is estimated, and the file need not be read again.
        return cls(path, stamp, _Checksum(lambda: (head, data.reshape(-1).view("u1")), kind))


@dataclass(frozen=True)
class FileSum:
    """Size and CRC-32 of a file that was written."""

    size: int
    crc: int

    @classmethod
    def of_parts(cls, parts: Mapping[int, tuple[int, int]]) -> FileSum:
        """Put together the checksum of a file whose parts were written in any order.

        Parameters
        ----------
        parts : mapping
            Where a part begins → its length in bytes, and its CRC-32. They leave no gaps.
        """
        crc, size = 0, 0
        for start in sorted(parts):
            length, found = parts[start]
            crc, size = _followed(crc, length) ^ found, size + length
        return cls(size, crc)

    def about(self) -> dict[str, Any]:
        """Return bytes and CRC-32, for a record."""
        return {"bytes": self.size, "crc32": f"{self.crc:08x}"}


# A CRC-32 is the remainder of a polynomial over GF(2) after division by this one, lowest power first.
_POLYNOMIAL = 0xEDB88320


def _followed(crc: int, count: int) -> int:
    """Return what a checksum adds to that of the whole, once so many bytes follow: it times x^(8·count)."""
    power = 0
    while count:
        if count & 1:
            crc = _applied(_byte_shift(power), crc)
        count >>= 1
        power += 1
    return crc


@cache
def _byte_shift(power: int) -> tuple[int, ...]:
    """Return what 2^power bytes more make of each bit of a remainder."""
    if power == 0:
        return tuple(_shifted(1 << bit, 8) for bit in range(32))
    half = _byte_shift(power - 1)
    return tuple(_applied(half, value) for value in half)


def _shifted(crc: int, bits: int) -> int:
    for _ in range(bits):
        crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc


def _applied(matrix: tuple[int, ...], crc: int) -> int:
    found, bit = 0, 0
    while crc:
        if crc & 1:
            found ^= matrix[bit]
        crc >>= 1
        bit += 1
    return found


@contextmanager
def reading(path: Path) -> Iterator[dict[str, Any]]:
    """Describe a file that another library reads in this block: path, SHA-256, bytes.

    InputError where it was changed or replaced between the checksum and the end of the block.
    """
    with read_errors(path), path.open("rb") as stream:
        stamp = Stamp.of(stream.fileno())
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    yield {"path": str(path.resolve()), "sha256": digest, "bytes": stamp.size}
    refuse_changed(path, path, stamp)


def written(path: Path) -> dict[str, Any]:
    """Describe a small file that was just written: bytes and CRC-32."""
    return {"bytes": path.stat().st_size, "crc32": _crc32_of(path)}


def is_as_written(path: Path, about: Mapping[str, Any]) -> bool:
    """Tell whether a file is the one that `written` or `FileSum.about` describe; OSError if it is missing."""
    return bool(path.stat().st_size == about["bytes"] and _crc32_of(path) == about["crc32"])
