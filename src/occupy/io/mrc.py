"""Read and write MRC/CCP4 maps, slab by slab, keeping every field of the header.

The layout of the header and the codes of data modes come from the mrcfile package. The payload is read
and written here, in slabs, because whole-file objects would need the file's size in memory once more.
"""

from __future__ import annotations

import bz2
import gzip
import math
import os
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import mrcfile.dtypes
import mrcfile.utils
import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.errors import InputError, Notice
from occupy.io.atomic import as_letters, atomic_file, check_length, read_errors
from occupy.io.checksum import ChecksumKind, FileSum, ReadFile, Stamp, refuse_changed
from occupy.io.mrc_header import HEADER_BYTES, MapHeader, header_of
from occupy.numerics.histogram import Moments, moments_of_planes
from occupy.numerics.parallel import large_empty, one_blas_thread, planes_per_slab
from occupy.volume import Grid, Volume

SUFFIXES = (".mrc", ".map", ".ccp4", ".rec")
STACK_SUFFIXES = (".mrcs", ".st", ".ali")
_PIECE = 1 << 20


def map_stem(path: str | Path) -> str:
    """Return a map's name without folder and without .mrc, .map, .ccp4, .gz, .bz2."""
    name = Path(path).name
    for suffix in (".gz", ".bz2"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    for suffix in (*SUFFIXES, *STACK_SUFFIXES):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    return as_letters(name)


def _open(path: Path, stack: ExitStack) -> tuple[BinaryIO, bool]:
    """Open a map, decompressing by content (not by name); tell whether it was compressed."""
    check_length(path)
    with read_errors(path):
        raw = stack.enter_context(path.open("rb"))
        magic = raw.read(3)
        raw.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=raw, mode="rb"))), True
    if magic == b"BZh":
        return cast(BinaryIO, stack.enter_context(bz2.BZ2File(raw, "rb"))), True
    return raw, False


def _read_exactly(stream: BinaryIO, count: int, path: Path, what: str) -> bytes:
    parts = []
    left = count
    while left:
        part = stream.read(min(left, _PIECE))
        if not part:
            raise InputError(f"{path}: the file is truncated: it ends inside the {what}")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _measure(stream: BinaryIO, count: int, path: Path) -> None:
    """Make sure that ``count`` more bytes follow, keeping none of them."""
    here = stream.tell()
    left = count
    while left:
        got = len(stream.read(min(left, _PIECE)))
        if not got:
            raise InputError(f"{path}: the file is truncated: it ends inside the data")
        left -= got
    stream.seek(here)


def _extended(stream: BinaryIO, count: int, path: Path) -> tuple[bytes, tuple[Notice, ...]]:
    """Read the extended header; one that is longer than any program writes is passed over."""
    # The longest known are those of tilt series, some 1 kB per image.
    if count <= 1 << 24:
        return _read_exactly(stream, count, path, "extended header"), ()
    for start in range(0, count, _PIECE):
        _read_exactly(stream, min(_PIECE, count - start), path, "extended header")
    text = f"{path.name}: the extended header of {count >> 20} MiB is left out of results"
    return b"", (Notice("extended-header", text),)


def _verify_checksum(stream: BinaryIO, most: int) -> None:
    """Read on to the end of a compressed file, where its checksum is, unless that is very far."""
    for _ in range(0, most, _PIECE):
        if not stream.read(_PIECE):
            return


def _payload(
    stream: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[Any], path: Path
) -> npt.NDArray[np.float32]:
    """Read sections slab by slab and convert each to float32."""
    try:
        out = large_empty(shape)
    except (MemoryError, ValueError) as error:
        raise InputError(f"{path}: a map of {shape[::-1]} voxels does not fit into memory") from error
    thickness = planes_per_slab(shape, 1 << 22)
    same = dtype == np.dtype("<f4") and np.little_endian
    for start in range(0, shape[0], thickness):
        target = out[start : start + thickness]
        if same:
            view = memoryview(target.data).cast("B")
            filled = 0
            while filled < len(view):
                got = stream.readinto(view[filled:])  # type: ignore[attr-defined]
                if not got:
                    raise InputError(f"{path}: the file is truncated: it ends inside the data")
                filled += got
        else:
            raw = _read_exactly(stream, target.size * dtype.itemsize, path, "data")
            with np.errstate(invalid="ignore"):
                target[...] = np.frombuffer(raw, dtype).reshape(target.shape)
    return out


def read_map(path: str | Path, *, voxel_size: float | None = None) -> Volume:
    """Read a map.

    Parameters
    ----------
    path : path-like
        ``.mrc``, ``.map`` or ``.ccp4``; may be compressed with gzip or bzip2. Any axis order, byte order
        and real data mode (0, 1, 2, 6, 12).
    voxel_size : float, optional
        Å per voxel, in place of the header's.

    Returns
    -------
    Volume
        Data as float32 in the order of the file, with the header's frame. They are in memory: what happens
        to the file afterwards does not matter. (A mapped file that is cut short ends the program.)

    Raises
    ------
    InputError
        Where the file is not a map, truncated, a stack of images, has no voxel size, or changes while it is
        read.
    """
    return _read_open(Path(path), voxel_size, None)[0]


def read_source(
    path: str | Path, *, voxel_size: float | None = None, kind: ChecksumKind = "sha256"
) -> tuple[Volume, ReadFile]:
    """Read a map as `read_map` does, and the checksum (of a kind) of the very bytes that were read."""
    volume, source = _read_open(Path(path), voxel_size, kind)
    assert source is not None
    return volume, source


def _read_open(
    path: Path, voxel_size: float | None, kind: ChecksumKind | None
) -> tuple[Volume, ReadFile | None]:
    if path.name.lower().endswith(STACK_SUFFIXES):
        raise InputError(f"{path}: this is a stack of images, not a map")
    with _reading(path) as (stream, compressed):
        stamp = Stamp.of(stream.fileno())
        volume, offset = _read(stream, compressed, path, voxel_size)
        refuse_changed(stream.fileno(), path, stamp)
        if kind is None:
            return volume, None
        return volume, ReadFile.of_open(stream.fileno(), path, stamp, volume.data, offset, kind)


def read_header(path: str | Path) -> MapHeader:
    """Read the header of a map; InputError where it is none, or a plain file shorter than it says."""
    path = Path(path)
    with _reading(path) as (stream, compressed):
        return _header_of(stream, compressed, path)


@contextmanager
def _reading(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a map; say in one line what went wrong while it was read."""
    with ExitStack() as stack:
        stream, compressed = _open(path, stack)
        with read_errors(path):
            try:
                yield stream, compressed
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise InputError(f"{path}: the compressed file is damaged or truncated") from error


def _header_of(stream: BinaryIO, compressed: bool, path: Path) -> MapHeader:
    raw = _read_exactly(stream, HEADER_BYTES, path, "header")
    return header_of(raw, None if compressed else os.fstat(stream.fileno()).st_size, path)


def _read(
    stream: BinaryIO, compressed: bool, path: Path, voxel_size: float | None
) -> tuple[Volume, int | None]:
    """Read a map; return it, and where its data begin if they are in memory as they are in the file."""
    header = _header_of(stream, compressed, path)
    claimed = math.prod(header.shape) * header.dtype.itemsize
    extended, left_out = _extended(stream, header.extended_bytes, path)
    # One that claims to unpack to more than this many times its size is measured before memory is set aside
    # (bzip2 may shrink a mask 100,000 : 1, and a damaged header may claim anything).
    if compressed and claimed > 8 * os.fstat(stream.fileno()).st_size:
        _measure(stream, claimed, path)
    frame, voxel, remarks = header.placed(path, extended, voxel_size)
    offset = HEADER_BYTES + header.extended_bytes
    plain = not compressed and header.dtype == np.dtype("<f4") and sys.byteorder == "little"
    # Read, not mapped: to touch a page of a mapped file that was cut short ends the program with SIGBUS.
    data = _payload(stream, header.shape, header.dtype, path)
    if compressed:
        _verify_checksum(stream, max(claimed, 1 << 26))
    volume = Volume(data, voxel, frame, map_stem(path), header.notices + left_out + remarks)
    return volume, offset if plain else None


class _MapWriter:
    """Writes one float32 map slab by slab, in any order and from several threads; see `open_writer`.

    Attributes
    ----------
    file : FileSum or None
        Size and checksum of what was written, once it is complete.
    """

    def __init__(self, stream: BinaryIO, like: Grid, label: str, *, checksum: bool) -> None:
        self.file: FileSum | None = None
        self._stream = stream
        self._like = like
        self._label = label
        self._lock = threading.Lock()
        self._stats: dict[int, list[Moments]] = {}
        self._parts: dict[int, tuple[int, int]] = {}
        self._checksum = checksum
        self._offset = HEADER_BYTES + len(like.frame.extended)
        stream.write(b"\x00" * self._offset)

    def write_planes(self, start: int, slab: npt.NDArray[np.float32]) -> None:
        """Write planes from ``start`` on."""
        block = np.ascontiguousarray(slab, dtype="<f4")
        # Plane by plane: sums must not depend on how planes were handed out to threads.
        moments = moments_of_planes(block)
        with self._lock:
            self._stats.update(enumerate(moments, start))
        self._write(self._offset + start * block[0].nbytes, block)

    def _write(self, place: int, part: Any) -> None:
        """Write bytes, and remember their checksum."""
        data = memoryview(part).cast("B")
        crc = zlib.crc32(data) if self._checksum else 0
        with self._lock:
            self._parts[place] = len(data), crc
            self._stream.seek(place)
            self._stream.write(data)

    def close(self) -> None:
        """Write the header, now that the statistics are known."""
        # In the order of the planes, not in that in which threads finished: sums must not depend on it.
        stats = [moments for start in sorted(self._stats) for moments in self._stats[start]]
        header = _header(self._like, self._label, stats).tobytes()
        self._write(0, header + self._like.frame.extended)
        self._stream.flush()
        if self._checksum:
            self.file = FileSum.of_parts(self._parts)


def _header(like: Grid, label: str, stats: list[Moments]) -> Any:
    header = np.zeros((), dtype=mrcfile.dtypes.HEADER_DTYPE.newbyteorder("<"))
    frame = like.frame
    fields: dict[str, Any] = {
        "mode": 2,
        "ispg": frame.space_group,
        "nsymbt": len(frame.extended),
        "exttyp": frame.extended_type,
        "nversion": 20141,
        "map": b"MAP ",
        "machst": list(mrcfile.utils.machine_stamp_from_byte_order("<")),
        # As structured values: x, y, z, and the three angles.
        "cella": frame.cell,
        "origin": frame.origin,
        "cellb": frame.angles,
    }
    for names, values in (
        ("nz ny nx", like.shape),
        ("nxstart nystart nzstart", frame.nstart),
        ("mx my mz", frame.sampling),
        ("mapc mapr maps", frame.axes),
    ):
        fields |= zip(names.split(), values, strict=True)
    for name, value in fields.items():
        header[name] = value
    labels = [*[text for text in frame.labels if text.strip(" \x00")][:9], label]
    header["nlabl"] = len(labels)
    header["label"][: len(labels)] = [text.encode("latin-1", "replace")[:80] for text in labels]
    _add_statistics(header, stats)
    return header


def _add_statistics(header: Any, stats: list[Moments]) -> None:
    total = sum(s[0] for s in stats)
    if total:
        mean = sum(s[0] * s[3] for s in stats) / total
        variance = sum(s[4] + s[0] * (s[3] - mean) ** 2 for s in stats) / total
        header["dmin"], header["dmax"] = min(s[1] for s in stats), max(s[2] for s in stats)
        header["dmean"], header["rms"] = mean, variance**0.5


@contextmanager
def open_writer(
    path: str | Path, like: Grid, what: str = "map", *, checksum: bool = False
) -> Iterator[_MapWriter]:
    """Write a map with the frame of another, slab by slab; it appears under its name when complete.

    Parameters
    ----------
    path : path-like
        Where to.
    like : Volume or LazyMap
        Its shape, voxel size, position, axis order, labels and extended header are kept.
    what : str
        For the label that is added.
    checksum : bool
        Work out the file's checksum, for a record, of the bytes that are written.
    """
    with one_blas_thread(), atomic_file(path) as part, part.open("r+b") as stream:
        writer = _MapWriter(stream, like, f"occupy {__version__}: {what}", checksum=checksum)
        yield writer
        writer.close()


def write_map(
    path: str | Path, volume: Volume, what: str = "map", *, checksum: bool = False
) -> FileSum | None:
    """Write a volume as a 32-bit float MRC map, atomically, with its own frame; see `open_writer`."""
    thickness = planes_per_slab(volume.shape, 1 << 22)
    with open_writer(path, volume, what, checksum=checksum) as writer:
        for start in range(0, volume.shape[0], thickness):
            writer.write_planes(start, volume.data[start : start + thickness])
    return writer.file
