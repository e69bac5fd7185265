"""Arrays that can be had again, kept up to a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy.typing as npt

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
