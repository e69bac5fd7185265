"""Arrays of all maps of a set as scratch files, one per map, seen by every process that works on them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError, OutputError
from occupy.io.atomic import explain, make_folder, try_lock

Array = npt.NDArray[np.float32]
Shape = tuple[int, int, int]

SCRATCH = ".occupy-scratch"
LOCK = "lock"


class FolderShelf:
    """Float32 arrays of one shape, each in a file of its own; what is not in use takes no memory.

    Files are read and written, not mapped: mapped pages count as memory of the process.
    """

    def __init__(self, folder: Path, count: int, shape: Shape) -> None:
        self.shape = shape
        self._folder = folder
        self._count = count
        make_folder(folder)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, k: int) -> Array:
        size = int(np.prod(self.shape))
        array = self._read(k, 0, size).reshape(self.shape)
        array.flags.writeable = False
        return array

    def __setitem__(self, k: int, array: Array) -> None:
        if array.shape != self.shape:
            raise ValueError(f"{array.shape} does not fit a shelf of {self.shape}")
        final = self._path(k)
        try:
            # Complete or not there: work on a map may be killed and done again elsewhere.
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as part:
                part.write(np.ascontiguousarray(array, dtype=np.float32).data)
            Path(part.name).replace(final)
        except OSError as error:
            raise explain(error, final) from error

    def span(self, start: int, stop: int) -> Array:
        """Return voxels of all maps."""
        out = np.empty((len(self), stop - start), dtype=np.float32)
        for k in range(len(self)):
            out[k] = self._read(k, start, stop - start)
        return out

    def put_span(self, start: int, values: Array) -> None:
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

    def _read(self, k: int, start: int, count: int) -> Array:
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


class FolderRoom:
    """Makes shelves below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def __call__(self, count: int, shape: Shape) -> FolderShelf:
        """Return a new shelf."""
        self._made += 1
        return FolderShelf(self._folder / f"{self._made:02d}", count, shape)


@contextmanager
def scratch(folder: Path) -> Iterator[FolderRoom]:
    """Give room beside results, removed afterwards; what a killed run left there is removed first.

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
            if left.name != LOCK:
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        yield FolderRoom(inside)
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
            lock = os.open(inside / LOCK, os.O_CREAT | os.O_RDWR, 0o666)
        except FileNotFoundError:  # the run before has just ended and removed its folder
            continue
        except OSError as error:
            raise explain(error, inside / LOCK) from error
        if try_lock(lock) is False:
            os.close(lock)
            raise OutputError(
                f"another run is working in {folder}; wait for it, or choose another folder with -o"
            )
        # The run before may have removed the file that was just locked.
        with suppress(OSError):
            if os.path.samestat(os.fstat(lock), (inside / LOCK).stat()):
                return lock
        os.close(lock)
