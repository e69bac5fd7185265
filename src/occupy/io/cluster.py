"""Per-map work on a Dask cluster, and arrays of all maps of a set as scratch files.

Every process that works on a set sees the same files as we do.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.errors import InputError, OccupyError, OutputError
from occupy.io.atomic import explain, make_folder, try_lock, write_text
from occupy.numerics.parallel import available_cores

_T = TypeVar("_T")

PATIENCE = 10
"""Seconds to wait for the scheduler's first answer."""

_LOST = (
    "the connection to the scheduler was lost: is it still running? --resume goes on with what is complete"
)


@dataclass(frozen=True, eq=False)
class _Parcel:
    """What all calls of a pass have in common; Dask doesn't look into it."""

    work: Callable[[Any, int], Any]
    shared: Any


def _unpacked(parcel: _Parcel) -> _Parcel:
    return parcel


def _call(k: int, parcel: _Parcel) -> Any:
    return parcel.work(parcel.shared, k)


class DaskExecutor:
    """Runs per-map work on the workers of a Dask scheduler; see `occupy.ensemble.execution.Executor`.

    Work that was lost with a worker is done again by another.
    """

    threads = available_cores()

    def __init__(self, client: Any) -> None:
        self._client = client

    def each(self, work: Callable[[Any, int], _T], shared: Any, count: int) -> Iterator[_T]:
        """Yield the results in order."""
        name = f"occupy-{uuid.uuid4().hex}"
        with warnings.catch_warnings():
            # Dask would rather have data scattered; but those are lost with the worker that has them.
            warnings.simplefilter("ignore", UserWarning)
            parcel = self._client.submit(_unpacked, _Parcel(work, shared), key=name, pure=False)
            futures = self._client.map(
                _call, range(count), parcel=parcel, key=[f"{name}-{k}" for k in range(count)], pure=False
            )
        futures.reverse()
        try:
            while futures:
                result = self._result(futures[-1])
                futures.pop()
                yield result
        finally:
            if futures:
                self._client.cancel([*futures, parcel], force=True)

    def _result(self, future: Any) -> Any:
        """Wait for a result, and look now and then whether it can still come."""
        import asyncio
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        while True:
            try:
                return future.result(timeout=2)  # seconds, then a look whether the scheduler is there
            except KilledWorker as error:
                raise OccupyError(
                    "workers of the cluster die again and again on the same map: have they enough memory?"
                ) from error
            except (CancelledError, asyncio.CancelledError, OSError) as error:
                # OSError includes TimeoutError; the work's own errors are handed on as they are.
                if future.status == "error":
                    raise
                if not isinstance(error, TimeoutError) or self._client.status != "running":
                    raise OccupyError(_LOST) from error


@contextmanager
def cluster(
    address: str, inputs: Sequence[Path], folder: Path, tell: Callable[[str], None]
) -> Iterator[DaskExecutor]:
    """Connect to a Dask scheduler, and make sure that its workers can do the work.

    Parameters
    ----------
    address : str
        Such as ``tcp://node17:8786``.
    inputs : sequence of Path
        Files that every worker must see.
    folder : Path
        Scratch folder that every worker must see.
    tell : callable
        Is told what is waited for.

    Raises
    ------
    InputError
        Where Dask is not installed, nobody answers, or a worker lacks the program or the files.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("--scheduler needs Dask: pip install 'occupy-em[dask]'") from error
    # It logs, at length, what is said in one line here.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except Exception as error:  # what a wrong address raises depends on what is wrong with it
        raise InputError(
            f"--scheduler {address}: no Dask scheduler answers there; `dask scheduler` prints its address "
            "when it starts, such as tcp://node17:8786"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            tell(f"no workers at {address} yet; waiting for the first")
            client.wait_for_workers(1)
        _check_workers(client, inputs, folder)
        yield DaskExecutor(client)


def _check_workers(client: Any, inputs: Sequence[Path], folder: Path) -> None:
    make_folder(folder)
    token = uuid.uuid4().hex
    write_text(folder / "token", token)
    names = [str(path.absolute()) for path in inputs]
    try:
        found = client.run(_missing, names, str(folder.absolute() / "token"), token)
    except Exception as error:  # what a worker without the program raises depends on Dask's version
        raise InputError(
            f"workers can't run occupy ({type(error).__name__}: {error}): install occupy-em {__version__} "
            "in their environment"
        ) from error
    for worker, (version, missing) in found.items():
        if version != __version__:
            raise InputError(
                f"worker {worker} has occupy {version}, here it is {__version__}: install the same"
            )
        if missing:
            raise InputError(f"worker {worker} can't see {missing}: all workers must share these folders")


def _missing(names: Sequence[str], place: str, token: str) -> tuple[str, str]:
    """Return this worker's version, and what of the files it can't see (or empty text)."""
    for name in names:
        if not Path(name).is_file():
            return __version__, name
    try:
        seen = Path(place).read_text(encoding="utf-8")
    except OSError:
        seen = ""
    return __version__, "" if seen == token else str(Path(place).parent)


_Array = npt.NDArray[np.float32]
_Shape = tuple[int, int, int]

SCRATCH = ".occupy-scratch"
_LOCK = "lock"


class _FolderStorage:
    """Float32 arrays of one shape, each in a file of its own; what is not in use takes no memory.

    Files are read and written, not mapped: mapped pages count as memory of the process.
    """

    def __init__(self, folder: Path, count: int, shape: _Shape) -> None:
        self.shape = shape
        self._folder = folder
        self._count = count
        make_folder(folder)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, k: int) -> _Array:
        size = int(np.prod(self.shape))
        array = self._read(k, 0, size).reshape(self.shape)
        array.flags.writeable = False
        return array

    def __setitem__(self, k: int, array: _Array) -> None:
        if array.shape != self.shape:
            raise ValueError(f"{array.shape} does not fit storage of {self.shape}")
        final = self._path(k)
        try:
            # Complete or not there: work on a map may be killed and done again elsewhere.
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as part:
                part.write(np.ascontiguousarray(array, dtype=np.float32).data)
            Path(part.name).replace(final)
        except OSError as error:
            raise explain(error, final) from error

    def span(self, start: int, stop: int) -> _Array:
        """Return voxels of all maps."""
        out = np.empty((len(self), stop - start), dtype=np.float32)
        for k in range(len(self)):
            out[k] = self._read(k, start, stop - start)
        return out

    def put_span(self, start: int, values: _Array) -> None:
        """Keep voxels of all maps."""
        for k, row in enumerate(values):
            path = self._path(k)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
                with os.fdopen(handle, "wb") as stream:
                    stream.seek(4 * start)
                    stream.write(np.ascontiguousarray(row, dtype=np.float32).data)
            except OSError as error:
                raise explain(error, path) from error

    def clear(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, k: int) -> Path:
        return self._folder / f"{k:06d}"

    def _read(self, k: int, start: int, count: int) -> _Array:
        try:
            array = np.fromfile(self._path(k), dtype=np.float32, count=count, offset=4 * start)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"{self._path(k)}: scratch file cannot be read ({reason}); all workers must see this folder"
            ) from error
        if array.size != count:
            raise InputError(f"{self._path(k)}: scratch file is cut short; was the disk full?")
        return array


@contextmanager
def scratch_storage(folder: Path) -> Iterator[Callable[[int, _Shape], _FolderStorage]]:
    """Give what makes storage beside results, removed afterwards; what a killed run left is removed first.

    Raises
    ------
    OutputError
        Where another run is working in this folder.
    """
    inside = folder.absolute() / SCRATCH
    missing = [parent for parent in inside.parents if not parent.exists()]
    lock = _locked(inside, folder)
    try:
        for left in inside.iterdir():
            if left.name != _LOCK:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        names = (inside / f"{number:02d}" for number in itertools.count(1))
        yield lambda count, shape: _FolderStorage(next(names), count, shape)
    finally:
        shutil.rmtree(inside, ignore_errors=True)
        os.close(lock)
        with suppress(OSError):
            for parent in missing:
                parent.rmdir()


def _locked(inside: Path, folder: Path) -> int:
    """Return a descriptor of the lock of a folder of scratch files."""
    while True:
        make_folder(inside)
        try:
            lock = os.open(inside / _LOCK, os.O_CREAT | os.O_RDWR, 0o666)
        except FileNotFoundError:  # the run before has just ended and removed its folder
            continue
        except OSError as error:
            raise explain(error, inside / _LOCK) from error
        if try_lock(lock) is False:
            os.close(lock)
            raise OutputError(
                f"another run is working in {folder}; wait for it, or choose another folder with -o"
            )
        # The run before may have removed the file that was just locked.
        with suppress(OSError):
            if os.path.samestat(os.fstat(lock), (inside / _LOCK).stat()):
                return lock
        os.close(lock)
