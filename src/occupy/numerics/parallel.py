"""Work on slabs of planes with threads; NumPy frees the interpreter lock inside its loops."""

from __future__ import annotations

import math
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

# Slabs of this many voxels (float32: half a megabyte) stay in a core's cache between point-wise steps.
VOXELS_IN_CACHE = 1 << 17

_local = threading.local()


def scratch(slot: str, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return this thread's reusable work array of a name; its contents are whatever was left there.

    Arrays of a few hundred kilobytes are given back to the system when freed and cost more in page faults
    than in arithmetic when made anew for every slab. An array must not outlive the step it is used in.
    """
    views = _local.__dict__.setdefault("views", {})
    key = slot, shape, dtype
    view = views.get(key)
    if view is None:
        buffers = _local.__dict__.setdefault("buffers", {})
        size = math.prod(shape) * np.dtype(dtype).itemsize
        buffer = buffers.get(slot)
        if buffer is None or len(buffer) < size:
            buffer = buffers[slot] = np.empty(size, dtype=np.uint8)
            # Views of the smaller buffer would keep it alive.
            views = _local.views = {k: v for k, v in views.items() if k[0] != slot}
        view = views[key] = buffer[:size].view(dtype).reshape(shape)
    return np.asarray(view)


def large_empty(shape: tuple[int, ...], least: int = 1 << 25) -> npt.NDArray[np.float32]:
    """Return an uninitialised float32 array whose memory is already there, in huge pages where possible.

    Touching new memory page by page costs more processor time than filling it; on Linux the system is
    asked for all of it at once. Elsewhere, and for arrays below ``least`` bytes, this is `numpy.empty`.
    """
    size = 4 * math.prod(shape)
    if size < least or not sys.platform.startswith("linux"):
        return np.empty(shape, dtype=np.float32)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
        # MADV_POPULATE_WRITE of Linux 5.14, which Python's mmap module does not name yet.
        memory.madvise(23)
    except (AttributeError, OSError, ValueError):
        # An older system, or not enough memory at once: the ordinary way says so if it must.
        return np.empty(shape, dtype=np.float32)
    return np.frombuffer(memory, dtype=np.float32).reshape(shape)


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


_blas_lock = threading.Lock()
_blas_limits: list[Any] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let NumPy's matrix products run on one thread each while this is open; may be nested and shared.

    How a product is divided among threads changes the last bits of its sums on some processors, and voxels
    then fall into other bins: results would depend on the machine's number of cores. The threads of
    `for_each_slab` do the work instead. Accelerate of macOS knows no such limit.
    """
    with _blas_lock:
        # Only the first to come sets the limit and only the last to go lifts it, in whatever order they end.
        limit = None if _blas_limits else _blas().limit(limits=1)
        _blas_limits.append(limit)
    try:
        yield
    finally:
        with _blas_lock:
            first = _blas_limits[0]
            _blas_limits.pop()
            if not _blas_limits:
                first.restore_original_limits()


def threads_worth_having(voxels: int, each: int = 11_000_000) -> int:
    """Return how many threads pay for a map: one per so many voxels, at most all cores.

    Below that, handing slabs to threads costs more processor time than it saves in waiting; measured at
    128³ to 512³.
    """
    return max(1, min(available_cores(), round(voxels / each)))


def available_cores() -> int:
    """Count the processors this process may use (an affinity mask, as set by a scheduler, is honoured)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def ordinary_unit(peak: float, most: int = 32) -> float:
    """Return the power of two to divide values by that reach ``peak``; 1 where their squares are safe.

    Between 2⁻³² and 2³² (``most``) products of single-precision values neither overflow nor lose digits.
    Dividing by a power of two is exact.
    """
    exponent = math.frexp(peak)[1]
    return 1.0 if abs(exponent) <= most or not math.isfinite(peak) else math.ldexp(1.0, exponent)


def slabs(planes: int, thickness: int) -> Iterator[tuple[int, int]]:
    """Yield ``(start, stop)`` of consecutive slabs that cover ``range(planes)``."""
    for start in range(0, planes, thickness):
        yield start, min(planes, start + thickness)


def planes_per_slab(shape: tuple[int, ...], voxels: int = VOXELS_IN_CACHE) -> int:
    """Return how many planes ``(shape[1], shape[2])`` hold about ``voxels`` voxels, at least one."""
    per_plane = max(1, int(shape[1]) * int(shape[2]))
    return max(1, min(int(shape[0]), voxels // per_plane))


def for_each_slab(work: Callable[[int, int], None], planes: int, thickness: int, threads: int = 1) -> None:
    """Call ``work(start, stop)`` for every slab, on ``threads`` threads.

    Parameters
    ----------
    work : callable
        Receives the first plane and the plane after the last one; must write to its own slab only.
    planes : int
        Number of planes in all.
    thickness : int
        Planes per slab.
    threads : int, default 1
        With 1, everything runs in the calling thread.
    """
    parts = list(slabs(planes, thickness))
    if threads <= 1 or len(parts) == 1:
        for start, stop in parts:
            work(start, stop)
        return
    with ThreadPoolExecutor(max_workers=min(threads, len(parts))) as pool:
        try:
            for _ in pool.map(lambda part: work(*part), parts):
                pass
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
