"""Files that are open in the viewer: read into memory, never mapped, and watched for changes.

A page may ask for a slice hours after a map was opened. Until then the file can have been rewritten, cut
short or removed, or its server be gone; a mapped file would then end the whole process with a bus error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.mrc import read_map
from occupy.volume import Volume


class ClosedError(InputError):
    """A scene was closed: its files changed, or its memory was needed."""


@dataclass(frozen=True)
class FileIdentity:
    """What tells whether a name still stands for the same contents, without reading them."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """Return the identity of a file; OSError where there is none any more."""
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class WatchedFiles:
    """Every file a scene was made of, and what it was when it was read first."""

    def __init__(self) -> None:
        self._known: dict[Path, FileIdentity] = {}

    def watch(self, path: Path) -> None:
        """Take note of a file as it is now; ClosedError where it is not what it was."""
        identity = _identity_or_error(path)
        if self._known.setdefault(path, identity) != identity:
            raise ClosedError(f"{path.name} was changed while it was open, so it was closed; open it again")

    def read(self, path: Path, voxel_size: float | None = None) -> Volume:
        """Read a map into memory.

        Raises
        ------
        InputError
            Where it cannot be read, or is not the file that was read before.
        """
        self.watch(path)
        volume = in_memory(read_map(path, voxel_size=voxel_size))
        # Once more: what was read must be the file whose identity is known.
        self.watch(path)
        return volume

    def check(self) -> None:
        """Raise ClosedError where any of the files is not what it was."""
        for path in list(self._known):
            self.watch(path)

    def forget(self, paths: Iterable[Path]) -> None:
        """Stop watching files, which are about to be replaced by our own."""
        for path in paths:
            self._known.pop(path, None)


def _identity_or_error(path: Path) -> FileIdentity:
    try:
        return FileIdentity.of(path)
    except FileNotFoundError:
        raise ClosedError(f"{path.name} is not there any more, so it was closed") from None
    except OSError as error:
        # ESTALE and ENODEV of network disks among them.
        reason = (error.strerror or str(error)).lower()
        raise ClosedError(f"{path.name} cannot be reached any more ({reason}), so it was closed") from None


def in_memory(volume: Volume) -> Volume:
    """Return a volume whose data do not depend on a file; mapped data are read anew, not through the map."""
    mapped = _mapped(volume.data)
    if mapped is None:
        return volume
    path: Any = mapped.filename
    name = Path(path).name
    try:
        data = np.fromfile(path, mapped.dtype, volume.data.size, offset=mapped.offset)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from error
    if data.size != volume.data.size:
        raise InputError(f"{name}: the file was cut short while it was read")
    return volume.with_data(data.reshape(volume.shape))


def _mapped(data: npt.NDArray[Any]) -> np.memmap[Any, Any] | None:
    """Return the mapped file behind an array, or None."""
    part: Any = data
    while part is not None:
        if isinstance(part, np.memmap) and part.filename is not None:
            return part
        part = getattr(part, "base", None)
    return None


def physical_memory() -> int:
    """Return the computer's memory in bytes; 8 GB where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 << 30
