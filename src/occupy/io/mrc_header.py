"""What the header of an MRC/CCP4 map says, and what is odd about it.

The layout of the header and the codes of data modes come from the mrcfile package. Where files lie in space
follows ChimeraX, in which people fit models and look at maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import mrcfile.dtypes
import numpy as np

from occupy.errors import InputError, Notice
from occupy.volume import Frame, Triple

HEADER_BYTES = 1024
_LONGEST_AXIS = 1 << 15
_TEXT = bytes([0, *b"\t\r\n", *range(32, 127)])
_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_CCP4_SUFFIXES = (".map", ".ccp4")
_STACKS = range(401, 631)


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
    compressed : bool
        Whether the file is.
    byte_order : str
        ``<`` or ``>``.
    notices : tuple of Notice
        What is odd about it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    frame: Frame
    extended_bytes: int
    compressed: bool
    byte_order: str
    notices: tuple[Notice, ...]

    def voxel_size(self, path: Path, override: float | None = None) -> Triple:
        """Return Å per voxel along sections, rows, columns; InputError where the header has none."""
        return self.placed(path, b"", override)[1]

    def placed(
        self, path: Path, extended: bytes, override: float | None
    ) -> tuple[Frame, Triple, tuple[Notice, ...]]:
        """Return the frame with extended header and voxel size, the latter, and what is odd.

        A binary extended header of the byte order we don't write is left out.
        """
        frame = replace(self.frame, extended=extended)
        notices: tuple[Notice, ...] = ()
        if self.byte_order == ">" and extended.translate(None, _TEXT):
            text = f"{path.name}: binary extended header of the other byte order left out"
            frame, notices = replace(self.frame, extended_type=b""), (Notice("extended-header", text),)
        if override is not None:
            if not (np.isfinite(override) and override > 0):
                raise InputError(f"the voxel size must be positive, not {override}")
            frame = replace(frame, cell=_triple(m * override for m in frame.sampling))
        per_axis = [c / m for c, m in zip(frame.cell, frame.sampling, strict=True)]
        if not all(1e-3 < a < 1e4 for a in per_axis):
            found = ", ".join(f"{a:.4g}" for a in per_axis)
            raise InputError(
                f"{path}: the header gives no usable voxel size ({found} Å); give it with --voxel-size"
            )
        columns, rows, sections = (per_axis[axis - 1] for axis in frame.axes)
        return frame, (sections, rows, columns), notices


def header_of(raw: bytes, size: int | None, path: Path) -> MapHeader:
    """Read and check a header.

    Parameters
    ----------
    raw : bytes
        The first `HEADER_BYTES` of the file.
    size : int or None
        Of the file; None where it is compressed, so that nothing can be said of what it should hold.
    path : Path
        For messages.
    """
    header, order, notices = _parse_header(raw, path)
    dtype = _data_type(header, order, raw, path)
    shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    extra, claimed = int(header["nsymbt"]), math.prod(shape) * dtype.itemsize
    if extra and size is not None and claimed == size - HEADER_BYTES:
        # Early entries of the EMDB announce symmetry operators that they don't have.
        text = f"{path.name}: the extended header of {extra} bytes that the header claims is not there"
        notices.append(Notice("extended-header", text))
        extra = 0
    if extra < 0 or (size is not None and extra > size - HEADER_BYTES):
        raise InputError(
            f"{path}: the header claims an extended header of {extra} bytes, more than the file holds"
        )
    if size is not None and claimed + extra > size - HEADER_BYTES:
        dims = " x ".join(str(n) for n in shape[::-1])
        raise InputError(
            f"{path}: the file is truncated or its header is wrong: it says {dims} voxels ({claimed} bytes), "
            f"the file has {size} bytes"
        )
    frame, remarks = _frame_of(header, raw, path)
    return MapHeader(shape, dtype, frame, extra, size is None, order, tuple(notices + remarks))


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
    if stamped != order:
        what = "no machine stamp; the byte order was guessed from the header"
        what = what if stamped is None else "the machine stamp contradicts the header; byte order guessed"
        notices.append(Notice("machine-stamp", f"{path.name}: {what}"))
    if raw[208:211] != b"MAP":
        text = f"{path.name}: no 'MAP' identifier in the header (a very old or foreign file)"
        notices.append(Notice("map-id", text))
    return (little if order == "<" else big), order, notices


def _data_type(header: Any, order: str, raw: bytes, path: Path) -> np.dtype[Any]:
    """Return the type of the values; InputError where they are complex, or of no known kind."""
    mode = int(header["mode"])
    if mode in (3, 4):
        raise InputError(f"{path}: this is a complex transform (mode {mode}), not a map")
    if mode not in _MODES:
        raise InputError(
            f"{path}: data mode {mode} is not supported; convert the map to 32-bit floats (mode 2)"
        )
    code = _MODES[mode]
    stamp, flags = np.frombuffer(raw[152:160], dtype=f"{order}i4")
    # IMOD says so where bytes have no sign.
    if mode == 0 and stamp == 1146047817 and not flags & 1:
        code = "u1"
    return np.dtype(order + code)


def _finite(value: Any, fallback: float = 0.0) -> float:
    return float(value) if np.isfinite(value) else fallback


def _frame_of(header: Any, raw: bytes, path: Path) -> tuple[Frame, list[Notice]]:
    """Return position, cell and axis order, and what is odd about them."""
    notices = []
    axes = tuple(int(header[k]) for k in ("mapc", "mapr", "maps"))
    if sorted(axes) != [1, 2, 3]:
        notices.append(Notice("axes", f"{path.name}: axis order {axes} is impossible; taken as x, y, z"))
        axes = (1, 2, 3)
    group, remarks = _space_group(header, path)
    labels = header["label"][: min(max(int(header["nlabl"]), 0), 10)]
    frame = Frame(
        axes=cast(Any, axes),
        cell=_triple(_finite(length) for length in header["cella"]),
        angles=_triple(_finite(angle, 90.0) or 90.0 for angle in header["cellb"]),
        sampling=_sampling(header, axes),
        nstart=_triple(int(header[k]) for k in ("nxstart", "nystart", "nzstart")),
        space_group=group,
        labels=tuple(bytes(label).decode("latin-1").rstrip(" \x00") for label in labels),
        extended_type=bytes(header["exttyp"]),
    )
    origin, more = _origin(frame, header, raw, path)
    return replace(frame, origin=origin), notices + remarks + more


def _triple(values: Iterable[Any]) -> Any:
    return tuple(values)


def _sampling(header: Any, axes: Sequence[int]) -> Any:
    """Return the intervals along x, y, z; those of the map where the header has none that can be."""
    counts = {axis: int(header[k]) for axis, k in zip(axes, ("nx", "ny", "nz"), strict=True)}
    found = [int(header[k]) for k in ("mx", "my", "mz")]
    return tuple(n if 0 < n <= _LONGEST_AXIS else counts[axis] for axis, n in enumerate(found, start=1))


def _space_group(header: Any, path: Path) -> tuple[int, list[Notice]]:
    """Return the space group: that of one volume, unless this is a stack of volumes.

    MRC2014 marks a stack by 401 to 630 and gives the sections of each volume in MZ. Programs have written
    other numbers there (IMP a floating-point 1), and 401 for a single volume.
    """
    group, sections, of_each = (int(header[k]) for k in ("ispg", "nz", "mz"))
    if 0 <= group <= 230 or (group in _STACKS and 0 < of_each < sections):
        return group, []
    why = "means a stack of volumes, but there is one" if group in _STACKS else "is none"
    text = f"{path.name}: space group {group} in the header {why}; read as a single volume"
    return 1, [Notice("space-group", text)]


def _origin(frame: Frame, header: Any, raw: bytes, path: Path) -> tuple[Triple, list[Notice]]:
    """Return ORIGIN where ChimeraX would use it, else zeros (then NSTART counts).

    ChimeraX reads .map and .ccp4 as CCP4, whose headers have no ORIGIN, and others as MRC, whose headers
    have one only where ``MAP `` stands in them. Results are written as .mrc, so an ORIGIN that is not used
    must not be in them.
    """
    found = tuple(float(header["origin"][k]) for k in "xyz")
    none = (0.0, 0.0, 0.0)
    if not any(found) or not np.all(np.isfinite(found)):
        return none, []
    ccp4 = path.name.lower().removesuffix(".gz").removesuffix(".bz2").endswith(_CCP4_SUFFIXES)
    if (not ccp4 and raw[208:212] == b"MAP ") or _same_place(frame, found):
        return cast(Triple, found), []
    place = ", ".join(f"{x:.4g}" for x in found)
    what = "CCP4 maps (.map, .ccp4)" if ccp4 else "maps without the identifier 'MAP '"
    text = f"{path.name}: ORIGIN ({place} Å) is not used: {what} are placed by NSTART, as in ChimeraX"
    return none, [
        Notice("origin", f"{text}; if the map belongs at ORIGIN, rename it to .mrc" if ccp4 else text)
    ]


def _same_place(frame: Frame, origin: tuple[float, ...]) -> bool:
    """Tell whether ORIGIN and NSTART say the same, to a hundredth of a voxel."""
    steps = np.divide(frame.cell, frame.sampling)
    start = dict(zip(frame.axes, frame.nstart, strict=True))
    by_start = np.array([start[axis] for axis in (1, 2, 3)]) * steps
    return bool(np.all(np.abs(by_start - origin) <= 0.01 * np.abs(steps)))
