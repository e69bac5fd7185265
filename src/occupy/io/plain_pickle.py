"""Read and write pickled NumPy arrays of whole numbers, without ever running what a pickle asks for.

A pickle is a program: reading one from somebody else's folder can do anything. Here NumPy's names lead to
stand-ins that only keep what they are given; every other name is refused. The array is then made from the
bytes by us.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.atomic import atomic_file, read_errors

_Integers = npt.NDArray[np.int64]
_KINDS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}
_PASSED_OVER = {"f4", "f8"}
"""Types of arrays that may lie beside the wanted one; they are kept as bytes."""
_HOMES = tuple(f"numpy.{core}.{part}" for core in ("core", "_core") for part in ("multiarray", "numeric"))


class _RefusedError(Exception):
    """What a pickle holds besides plain arrays."""


class _Type:
    """Stands for numpy.dtype."""

    def __init__(self, kind: Any, *_: Any) -> None:
        if kind not in _KINDS | _PASSED_OVER:
            raise _RefusedError(f"numbers of type {kind!r}")
        self.kind: str = kind
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        # version, byte order, and five entries of structured types
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise _RefusedError("a structured type")
        if state[1] not in ("<", ">", "|", "="):
            raise _RefusedError(f"byte order {state[1]!r}")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.kind).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """Stands for numpy.ndarray while it is being filled."""

    def __init__(self, *_: Any) -> None:
        self.parts: tuple[Any, Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, data = state
        self.parts = data, kind, shape


def _numbers(data: Any, kind: Any, shape: Any) -> _Integers:
    if not isinstance(kind, _Type) or not isinstance(data, (bytes, bytearray)):
        raise _RefusedError("an array of objects")
    if not isinstance(shape, tuple) or len(shape) != 1 or not isinstance(shape[0], int):
        raise _RefusedError("an array of more than one dimension")
    if kind.kind not in _KINDS:
        raise _RefusedError(f"numbers of type {kind.kind!r}")
    found = np.frombuffer(data, kind.numpy())
    if len(found) != shape[0]:
        raise _RefusedError("an array of another length than it says")
    return found.astype(np.int64)


def _from_buffer(data: Any, kind: Any, shape: Any, *_: Any) -> _Array:
    made = _Array()
    made.parts = bytes(data), kind, shape
    return made


def _scalar(kind: Any, data: Any) -> int:
    return int(_numbers(data, kind, (1,))[0])


def _bytes_of(text: Any, encoding: Any) -> bytes:
    """Stand for _codecs.encode, by which Python 2 and protocol 2 keep bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError("a text")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand for bytes(), by which protocol 2 keeps an empty array."""
    return b""


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _bytes_of,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}
for _home in _HOMES:
    _STAND_INS[_home, "_reconstruct"] = _Array
    _STAND_INS[_home, "_frombuffer"] = _from_buffer
    _STAND_INS[_home, "scalar"] = _scalar


class _Reader(pickle.Unpickler):
    """Knows the names that a plain array needs, and leads them to the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise _RefusedError(f"{module}.{name}")
        return _STAND_INS[module, name]


def read_integers(path: Path) -> _Integers:
    """Read a pickled one-dimensional NumPy array (or list) of whole numbers, or the ``labels`` of a dict.

    Returns
    -------
    ndarray of int64, shape (N,)

    Raises
    ------
    InputError
        Where the file cannot be read, is no pickle, or asks for anything else than plain arrays.
    """
    with read_errors(path):
        raw = path.read_bytes()
    try:
        _check_sizes(raw)
        found = _Reader(io.BytesIO(raw)).load()
        return _plain(found)
    except _RefusedError as error:
        raise InputError(
            f"{path}: refused: it holds {error}, and only plain NumPy arrays of whole numbers are read"
        ) from error
    # A damaged pickle can raise nearly anything.
    except Exception as error:
        raise InputError(f"{path}: not a pickled NumPy array, or damaged ({type(error).__name__})") from error


def _check_sizes(raw: bytes) -> None:
    """Go through a pickle without loading it: what it announces must be there, and its table small.

    A damaged number of an entry makes Python set aside memory for all entries up to it.
    """
    for operation, argument, _ in pickletools.genops(raw):
        if operation.name.endswith("PUT") and isinstance(argument, int) and argument > len(raw):
            raise _RefusedError(f"a table of {argument} entries")


def _plain(found: Any) -> _Integers:
    if isinstance(found, dict) and "labels" in found:
        # RECOVAR keeps labels with the centres they belong to.
        return _plain(found["labels"])
    if isinstance(found, _Array) and found.parts is not None:
        return _numbers(*found.parts)
    if isinstance(found, (list, tuple)) and all(type(value) is int for value in found):
        return np.array(found, dtype=np.int64)
    raise _RefusedError(f"a {type(found).__name__.strip('_').lower()}")


def write_integers(path: Path, values: npt.ArrayLike) -> None:
    """Write a one-dimensional array of whole numbers so that any NumPy since 1.0 reads it, atomically."""
    array = np.ascontiguousarray(values, dtype=np.int64)
    if array.ndim != 1:
        raise ValueError(f"one dimension is wanted, not {array.ndim}")
    text = pickle.dumps(array, protocol=2)
    # NumPy 2 writes its new module name, which NumPy before 1.26 does not know; all know the old one.
    text = text.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)
    with atomic_file(path) as part:
        part.write_bytes(text)
