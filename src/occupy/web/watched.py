"""Files that are open in the viewer, watched for changes, and arrays of them that are kept.

A page may ask for a slice hours after a map was opened. Until then the file can have been rewritten, cut
short or removed, or its server be gone: what is shown would not be what lies there any more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.checksum import ReadFile, Stamp
from occupy.io.mrc import read_source
from occupy.report.record import read_checked
from occupy.result import LoadedResult
from occupy.volume import Volume


class ClosedError(InputError):
    """A scene was closed: its files changed, or its memory was needed."""


class WatchedFiles:
    """Every file a scene was made of, and what it was when it was read first."""

    def __init__(self) -> None:
        self._known: dict[Path, Stamp] = {}

    def watch(self, path: Path) -> None:
        """Take note of a file as it is now; ClosedError where it is not what it was."""
        stamp = _stamp_or_error(path)
        if self._known.setdefault(path, stamp) != stamp:
            raise ClosedError(f"{path.name} was changed while it was open, so it was closed; open it again")

    def read(self, path: Path, voxel_size: float | None = None) -> tuple[Volume, ReadFile]:
        """Read a map, and the checksum of the very bytes that were read.

        Raises
        ------
        InputError
            Where it cannot be read, or is not the file that was read before.
        """
        self.watch(path)
        volume, source = read_source(path, voxel_size=voxel_size)
        # Once more: what was read must be the file whose stamp is known.
        self.watch(path)
        return volume, source

    def check(self) -> None:
        """Raise ClosedError where any of the files is not what it was."""
        for path in list(self._known):
            self.watch(path)

    def forget(self, paths: Iterable[Path]) -> None:
        """Stop watching files, which are about to be replaced by our own."""
        for path in paths:
            self._known.pop(path, None)


def read_watched(path: Path, watched: WatchedFiles, result: LoadedResult) -> Volume:
    """Read a map of a result; InputError where it is not as the run wrote it or as it was first seen."""
    watched.watch(path)
    volume = read_checked(path, result.read)
    watched.watch(path)
    return volume


def _stamp_or_error(path: Path) -> Stamp:
    try:
        return Stamp.of(path)
    except FileNotFoundError:
        raise ClosedError(f"{path.name} is not there any more, so it was closed") from None
    except OSError as error:
        # ESTALE and ENODEV of network disks among them.
        reason = (error.strerror or str(error)).lower()
        raise ClosedError(f"{path.name} cannot be reached any more ({reason}), so it was closed") from None


Array = npt.NDArray[Any]


class ArrayCache:
    """Arrays by key; those used longest ago go when all together are larger than the limit.

    Parameters
    ----------
    limit : int
        Bytes. The array used last stays whatever its size, as it is in use.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._arrays: OrderedDict[Hashable, Array] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Size of all arrays kept."""
        with self._lock:
            return sum(array.nbytes for array in self._arrays.values())

    def get(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """Return the array of a key, made where it is not kept."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        # Without the lock: another scene must not wait for this one's disk.
        array = make()
        with self._lock:
            self._arrays[key] = array
            self._arrays.move_to_end(key)
            total = sum(kept.nbytes for kept in self._arrays.values())
            while total > self.limit and len(self._arrays) > 1:
                total -= self._arrays.popitem(last=False)[1].nbytes
        return array

    def drop(self, belongs: Callable[[Any], bool]) -> None:
        """Forget the arrays whose key ``belongs``."""
        with self._lock:
            for key in [key for key in self._arrays if belongs(key)]:
                del self._arrays[key]
