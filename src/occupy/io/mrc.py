"""Read and write MRC/CCP4 maps, slab by slab, keeping every field of the header.

The layout of the header and the codes of data modes come from the mrcfile package. The payload is read
and written here, in slabs, because whole-file objects would need the file's size in memory once more.
"""

from __future__ import annotations

import bz2
import gzip
import math
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import mrcfile.dtypes
import mrcfile.utils
import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.errors import InputError, Notice
from occupy.io.atomic import atomic_file
from occupy.numerics.parallel import VOXELS_IN_CACHE, one_blas_thread, planes_per_slab, scratch
from occupy.volume import Frame, Volume

HEADER_BYTES = 1024
SUFFIXES = (".mrc", ".map", ".ccp4", ".rec")
STACK_SUFFIXES = (".mrcs", ".st", ".ali")
_LONGEST_AXIS = 1 << 15
# A compressed map that claims to unpack to more than this many times its size is measured before memory
# is set aside for it (bzip2 may shrink a mask 100,000 : 1, and a damaged header may claim anything).
_USUAL_COMPRESSION = 8
_PIECE = 1 << 20
_TEXT = bytes([0, *b"\t\r\n", *range(32, 127)])
_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_IMOD_STAMP = 1146047817

Moments = tuple[int, float, float, float, float]


def map_stem(path: str | Path) -> str:
    """Return a map's name without folder and without .mrc, .map, .ccp4, .gz, .bz2."""
    name = Path(path).name
    for suffix in (".gz", ".bz2"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    for suffix in (*SUFFIXES, *STACK_SUFFIXES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _open(path: Path, stack: ExitStack) -> tuple[BinaryIO, bool]:
    """Open a map, decompressing by content (not by name); tell whether it was compressed."""
    try:
        raw = stack.enter_context(path.open("rb"))
        magic = raw.read(3)
        raw.seek(0)
    except OSError as error:
        reason = (
            "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        )
        raise InputError(f"{path}: {reason}") from error
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


def _verify_checksum(stream: BinaryIO, most: int) -> None:
    """Read on to the end of a compressed file, where its checksum is, unless that is very far."""
    for _ in range(0, most, _PIECE):
        if not stream.read(_PIECE):
            return


def _plausible(header: Any) -> bool:
    sizes = [int(header[k]) for k in ("nx", "ny", "nz")]
    return int(header["mode"]) in (*_MODES, 3, 4, 101) and all(0 < n <= _LONGEST_AXIS for n in sizes)


def _parse_header(raw: bytes, path: Path) -> tuple[Any, str, list[Notice]]:
    """Return the header record, its byte order and remarks about it."""
    little, big = (np.frombuffer(raw, mrcfile.dtypes.HEADER_DTYPE.newbyteorder(o))[0] for o in "<>")
    stamp = raw[212:216]
    stamped = {b"\x44\x44": "<", b"\x44\x41": "<", b"\x11\x11": ">"}.get(stamp[:2])
    fits = [order for order, header in (("<", little), (">", big)) if _plausible(header)]
    if not fits:
        raise InputError(f"{path}: not an MRC/CCP4 map (the header makes no sense in either byte order)")
    order = stamped if stamped in fits else fits[0]
    notices = []
    if stamped is None:
        notices.append(
            Notice(
                "machine-stamp", f"{path.name}: no machine stamp; the byte order was guessed from the header"
            )
        )
    elif stamped != order:
        notices.append(
            Notice(
                "machine-stamp", f"{path.name}: the machine stamp contradicts the header; byte order guessed"
            )
        )
    if raw[208:211] != b"MAP":
        notices.append(
            Notice("map-id", f"{path.name}: no 'MAP' identifier in the header (a very old or foreign file)")
        )
    return (little if order == "<" else big), order, notices


def _dtype(header: Any, order: str, raw: bytes, path: Path) -> np.dtype[Any]:
    mode = int(header["mode"])
    if mode in (3, 4):
        raise InputError(f"{path}: this is a complex transform (mode {mode}), not a map")
    if mode not in _MODES:
        raise InputError(
            f"{path}: data mode {mode} is not supported; convert the map to 32-bit floats (mode 2)"
        )
    code = _MODES[mode]
    stamp, flags = np.frombuffer(raw[152:160], dtype=f"{order}i4")
    if mode == 0 and stamp == _IMOD_STAMP and not flags & 1:
        code = "u1"
    return np.dtype(order + code)


def _finite(value: Any, fallback: float = 0.0) -> float:
    return float(value) if np.isfinite(value) else fallback


def _frame(header: Any, path: Path) -> tuple[Frame, list[Notice]]:
    notices = []
    axes = tuple(int(header[k]) for k in ("mapc", "mapr", "maps"))
    if sorted(axes) != [1, 2, 3]:
        notices.append(Notice("axes", f"{path.name}: axis order {axes} is impossible; taken as x, y, z"))
        axes = (1, 2, 3)
    counts = {axis: int(header[k]) for axis, k in zip(axes, ("nx", "ny", "nz"), strict=True)}
    sampling = tuple(
        int(header[k]) if 0 < int(header[k]) <= _LONGEST_AXIS else counts[axis]
        for axis, k in enumerate(("mx", "my", "mz"), start=1)
    )
    label_count = min(max(int(header["nlabl"]), 0), 10)
    labels = tuple(bytes(label).decode("latin-1").rstrip(" \x00") for label in header["label"][:label_count])
    angles = tuple(_finite(header["cellb"][k], 90.0) or 90.0 for k in ("alpha", "beta", "gamma"))
    frame = Frame(
        axes=cast(Any, axes),
        cell=cast(Any, tuple(_finite(header["cella"][k]) for k in "xyz")),
        angles=cast(Any, angles),
        sampling=cast(Any, sampling),
        nstart=cast(Any, tuple(int(header[k]) for k in ("nxstart", "nystart", "nzstart"))),
        origin=cast(Any, tuple(_finite(header["origin"][k]) for k in "xyz")),
        space_group=int(header["ispg"]),
        labels=labels,
        extended_type=bytes(header["exttyp"]),
    )
    return frame, notices


def _with_extended(frame: Frame, extended: bytes, order: str, path: Path) -> tuple[Frame, tuple[Notice, ...]]:
    """Add the extended header, unless it is binary and of the byte order we don't write."""
    if order == ">" and extended.translate(None, _TEXT):
        text = f"{path.name}: binary extended header of the other byte order left out"
        return replace(frame, extended_type=b""), (Notice("extended-header", text),)
    return replace(frame, extended=extended), ()


def _voxel_size(frame: Frame, override: float | None, path: Path) -> tuple[Frame, tuple[float, float, float]]:
    """Return the frame and Å per voxel along sections, rows, columns."""
    if override is not None:
        if not (np.isfinite(override) and override > 0):
            raise InputError(f"the voxel size must be positive, not {override}")
        cell = tuple(m * override for m in frame.sampling)
        frame = Frame(**{**frame.__dict__, "cell": cell})
    per_axis = [c / m for c, m in zip(frame.cell, frame.sampling, strict=True)]
    if not all(1e-3 < a < 1e4 for a in per_axis):
        found = ", ".join(f"{a:.4g}" for a in per_axis)
        raise InputError(
            f"{path}: the header gives no usable voxel size ({found} Å); give it with --voxel-size"
        )
    columns, rows, sections = (per_axis[axis - 1] for axis in frame.axes)
    return frame, (sections, rows, columns)


def _payload(
    stream: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[Any], path: Path
) -> npt.NDArray[np.float32]:
    """Read sections slab by slab and convert each to float32."""
    try:
        out = np.empty(shape, dtype=np.float32)
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
        Data as float32 in the order of the file, with the header's frame. A plain 32-bit file is mapped
        into memory, not copied: it must not be overwritten in place while the volume is in use (writing a
        new file of the same name, as this program does, is no harm).

    Raises
    ------
    InputError
        Where the file is not a map, truncated, a stack of images, or has no voxel size.
    """
    path = Path(path)
    if path.name.lower().endswith(STACK_SUFFIXES):
        raise InputError(f"{path}: this is a stack of images, not a map")
    with _reading(path) as (stream, compressed):
        return _read(stream, compressed, path, voxel_size)


@dataclass(frozen=True)
class MapHeader:
    """What a map's header says, read without its data.

    Attributes
    ----------
    shape : tuple of int
        Sections, rows and columns.
    dtype : numpy.dtype
        Of the values in the file.
    frame : Frame
        Position, cell and axis order; without the extended header.
    extended_bytes : int
        Length of the extended header.
    notices : tuple of Notice
        What is odd about it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    frame: Frame
    extended_bytes: int
    notices: tuple[Notice, ...]

    def voxel_size(self, path: Path, override: float | None = None) -> tuple[float, float, float]:
        """Return Å per voxel along sections, rows, columns; InputError where the header has none."""
        return _voxel_size(self.frame, override, path)[1]


def read_header(path: str | Path) -> MapHeader:
    """Read the header of a map; InputError where it is none, or a plain file shorter than it says."""
    path = Path(path)
    with _reading(path) as (stream, compressed):
        return _header_of(stream, compressed, path)[0]


@contextmanager
def _reading(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a map; say in one line what went wrong while it was read."""
    with ExitStack() as stack:
        stream, compressed = _open(path, stack)
        try:
            yield stream, compressed
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{path}: the compressed file is damaged or truncated") from error
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _header_of(stream: BinaryIO, compressed: bool, path: Path) -> tuple[MapHeader, str]:
    """Read and check the header at the start of a stream; return it and the byte order."""
    raw = _read_exactly(stream, HEADER_BYTES, path, "header")
    header, order, notices = _parse_header(raw, path)
    dtype = _dtype(header, order, raw, path)
    shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    extra, size = int(header["nsymbt"]), path.stat().st_size
    claimed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if extra < 0 or (not compressed and extra > size - HEADER_BYTES):
        raise InputError(
            f"{path}: the header claims an extended header of {extra} bytes, more than the file holds"
        )
    if not compressed and claimed + extra > size - HEADER_BYTES:
        dims = " x ".join(str(n) for n in shape[::-1])
        raise InputError(
            f"{path}: the file is truncated or its header is wrong: it says {dims} voxels ({claimed} bytes), "
            f"the file has {size} bytes"
        )
    frame, remarks = _frame(header, path)
    return MapHeader(shape, dtype, frame, extra, tuple(notices + remarks)), order


def _read(stream: BinaryIO, compressed: bool, path: Path, voxel_size: float | None) -> Volume:
    header, order = _header_of(stream, compressed, path)
    claimed = math.prod(header.shape) * header.dtype.itemsize
    extended = _read_exactly(stream, header.extended_bytes, path, "extended header")
    if compressed and claimed > _USUAL_COMPRESSION * path.stat().st_size:
        _measure(stream, claimed, path)
    frame, remarks = _with_extended(header.frame, extended, order, path)
    frame, voxel = _voxel_size(frame, voxel_size, path)
    offset = HEADER_BYTES + header.extended_bytes
    plain = not compressed and header.dtype == np.dtype("<f4") and sys.byteorder == "little"
    if plain and offset % 4 == 0:
        # The file's own pages: a copy of a large map costs more time than some of the steps made of it.
        data: npt.NDArray[np.float32] = np.memmap(path, np.float32, "r", offset, header.shape)
    else:
        data = _payload(stream, header.shape, header.dtype, path)
    if compressed:
        _verify_checksum(stream, max(claimed, 1 << 26))
    return Volume(data, voxel, frame, map_stem(path), header.notices + remarks)


class MapWriter:
    """Writes one float32 map slab by slab, in any order and from several threads; see `open_writer`."""

    def __init__(self, stream: BinaryIO, like: Volume, label: str) -> None:
        self._stream = stream
        self._like = like
        self._label = label
        self._lock = threading.Lock()
        self._stats: dict[int, list[Moments]] = {}
        self._offset = HEADER_BYTES + len(like.frame.extended)
        stream.write(b"\x00" * HEADER_BYTES + like.frame.extended)

    def write_planes(self, start: int, slab: npt.NDArray[np.float32]) -> None:
        """Write planes from ``start`` on."""
        block = np.ascontiguousarray(slab, dtype="<f4")
        # Plane by plane: sums must not depend on how planes were handed out to threads.
        moments = [_moments(plane.reshape(-1)) for plane in block]
        place = self._offset + start * block.shape[1] * block.shape[2] * 4
        with self._lock:
            self._stats.update(enumerate(moments, start))
            self._stream.seek(place)
            self._stream.write(block.data.cast("B"))

    def close(self) -> None:
        """Write the header, now that the statistics are known."""
        # In the order of the planes, not in that in which threads finished: sums must not depend on it.
        stats = [moments for start in sorted(self._stats) for moments in self._stats[start]]
        self._stream.seek(0)
        self._stream.write(_header(self._like, self._label, stats).tobytes())


def _moments(flat: npt.NDArray[np.float32]) -> list[Moments]:
    """Return count, minimum, maximum, mean and sum of squared deviations from it, for each part."""
    parts = []
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values have no deviation
        for start in range(0, flat.size, VOXELS_IN_CACHE):
            part = flat[start : start + VOXELS_IN_CACHE]
            low, high, mean = float(part.min()), float(part.max()), float(part.mean())
            squares = float(np.dot(part, part)) - part.size * mean**2
            if not 0.1 * part.size * mean**2 < squares < math.inf:
                mean, squares = _centred_moments(part, mean)
            parts.append((part.size, low, high, mean, max(squares, 0.0)))
    return parts


def _centred_moments(part: npt.NDArray[np.float32], guess: float) -> tuple[float, float]:
    """Return mean and sum of squared deviations where the mean is large beside them."""
    # Differences from a float32 next to the mean are exact, and small.
    pivot = np.float32(guess)
    centred = np.subtract(part, pivot, out=scratch("centred", part.shape))
    rest = float(centred.mean())
    squares = float(np.dot(centred, centred)) - part.size * rest**2
    if math.isfinite(squares):
        return float(pivot) + rest, squares
    wide = part.astype(np.float64)
    mean = float(wide.mean())
    wide -= mean
    return mean, float(np.dot(wide, wide))


def _header(like: Volume, label: str, stats: list[Moments]) -> Any:
    header = np.zeros((), dtype=mrcfile.dtypes.HEADER_DTYPE.newbyteorder("<"))
    frame = like.frame
    header["nz"], header["ny"], header["nx"] = like.shape
    header["mode"] = 2
    for names, values in (
        (("nxstart", "nystart", "nzstart"), frame.nstart),
        (("mx", "my", "mz"), frame.sampling),
        (("mapc", "mapr", "maps"), frame.axes),
    ):
        for name, value in zip(names, values, strict=True):
            header[name] = value
    for name, lengths in (("cella", frame.cell), ("origin", frame.origin)):
        for axis, length in zip("xyz", lengths, strict=True):
            header[name][axis] = length
    for angle, degrees in zip(("alpha", "beta", "gamma"), frame.angles, strict=True):
        header["cellb"][angle] = degrees
    header["ispg"], header["nsymbt"] = frame.space_group, len(frame.extended)
    header["exttyp"], header["nversion"] = frame.extended_type, 20141
    header["map"], header["machst"] = b"MAP ", list(mrcfile.utils.machine_stamp_from_byte_order("<"))
    labels = [*[text for text in frame.labels if text.strip(" \x00")][:9], label]
    header["nlabl"] = len(labels)
    for i, text in enumerate(labels):
        header["label"][i] = text.encode("latin-1", "replace")[:80]
    total = sum(s[0] for s in stats)
    if total:
        mean = sum(s[0] * s[3] for s in stats) / total
        variance = sum(s[4] + s[0] * (s[3] - mean) ** 2 for s in stats) / total
        header["dmin"], header["dmax"] = min(s[1] for s in stats), max(s[2] for s in stats)
        header["dmean"], header["rms"] = mean, variance**0.5
    return header


@contextmanager
def open_writer(path: str | Path, like: Volume, what: str = "map") -> Iterator[MapWriter]:
    """Write a map with the frame of another, slab by slab; it appears under its name when complete.

    Parameters
    ----------
    path : path-like
        Where to.
    like : Volume
        Its shape, voxel size, position, axis order, labels and extended header are kept.
    what : str
        For the label that is added.
    """
    with one_blas_thread(), atomic_file(path) as part, part.open("r+b") as stream:
        writer = MapWriter(stream, like, f"occupy {__version__}: {what}")
        yield writer
        writer.close()


def write_map(path: str | Path, volume: Volume, what: str = "map") -> None:
    """Write a volume as a 32-bit float MRC map, atomically, with its own frame."""
    thickness = planes_per_slab(volume.shape, 1 << 22)
    with open_writer(path, volume, what) as writer:
        for start in range(0, volume.shape[0], thickness):
            writer.write_planes(start, volume.data[start : start + thickness])
