"""Files that are open in the viewer: watched for changes.

A page may ask for a slice hours after a map was opened. Until then the file can have been rewritten, cut
short or removed, or its server be gone: what is shown would not be what lies there any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from occupy.errors import InputError
from occupy.io.checksum import ReadFile, Stamp
from occupy.io.mrc import read_source
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


def _stamp_or_error(path: Path) -> Stamp:
    try:
        return Stamp.of(path)
    except FileNotFoundError:
        raise ClosedError(f"{path.name} is not there any more, so it was closed") from None
    except OSError as error:
        # ESTALE and ENODEV of network disks among them.
        reason = (error.strerror or str(error)).lower()
        raise ClosedError(f"{path.name} cannot be reached any more ({reason}), so it was closed") from None


def physical_memory() -> int:
    """Return the computer's memory in bytes; 8 GB where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 << 30
