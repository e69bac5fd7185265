"""What goes to the page in binary: meshes and slices, as eight- and sixteen-bit numbers with a JSON head."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def pack(head: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return one message: length of the head, the head, and the arrays, each at a multiple of four bytes.

    Parameters
    ----------
    head : mapping
        Plain values; ``arrays`` is added: name → type, offset after the head, number of elements.
    arrays : mapping
        Name → array; sent little-endian.
    """
    index, parts, offset = {}, [], 0
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array)
        raw = plain.astype(plain.dtype.newbyteorder("<"), copy=False).tobytes()
        index[name] = {"type": plain.dtype.name, "offset": offset, "length": plain.size}
        parts.append(raw + bytes(-len(raw) % 4))
        offset += len(parts[-1])
    text = json.dumps({**head, "arrays": index}, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<I", len(text)) + text + b"".join(parts)


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read what `pack` made: the head and the arrays."""
    (length,) = struct.unpack_from("<I", message)
    head = json.loads(message[4 : 4 + length])
    arrays = {
        name: np.frombuffer(
            message, np.dtype(a["type"]).newbyteorder("<"), a["length"], 4 + length + a["offset"]
        )
        for name, a in head.pop("arrays").items()
    }
    return head, arrays


def to_bytes(values: npt.NDArray[np.floating], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return values as 0 to 255 between ``low`` and ``high``; those beyond are cut off."""
    span = (high - low) or 1.0
    scaled = (values - np.float32(low)) * np.float32(255 / span)
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)
