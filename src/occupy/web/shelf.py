"""The files the viewer may see: those below one folder, and those the user named on the command line.

A page may ask for a slice hours after a map was opened. Until then the file can have been rewritten, cut
short or removed, or its server be gone: what is shown would not be what lies there any more. So files that
are open are watched for changes.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.checksum import ReadFile, Stamp
from occupy.io.mrc import SUFFIXES, read_source
from occupy.report.record import read_checked, read_record
from occupy.result import LoadedResult
from occupy.volume import Volume

MODEL_SUFFIXES = (".cif", ".mmcif", ".pdb", ".ent", ".cif.gz", ".pdb.gz")
MAP_SUFFIXES = tuple(s + c for s in SUFFIXES for c in ("", ".gz", ".bz2"))
SET_RECORD = "occupy_set.json"
MOST_ENTRIES = 2000


@dataclass(frozen=True)
class Shelf:
    """What may be opened.

    Attributes
    ----------
    root : Path
        Resolved folder; everything below it may be read, and results are written there.
    named : frozenset of Path
        Resolved files and folders outside of it that the user named, or had written.
    start : Path, optional
        Resolved folder in which the user started: results go there, as the command line's do. By default
        the root.
    """

    root: Path
    named: frozenset[Path] = frozenset()
    start: Path | None = None

    @classmethod
    def of(cls, root: Path, named: Iterable[Path] = (), start: Path | None = None) -> Shelf:
        """Make a shelf of a folder and files; links are followed here, once."""
        return cls(root.resolve(), frozenset(path.resolve() for path in named), start and start.resolve())

    def also(self, path: Path) -> Shelf:
        """Return the shelf with one more file or folder that may be opened."""
        return replace(self, named=self.named | {path.resolve()})

    @property
    def base(self) -> Path:
        """The folder in which the user started."""
        return self.start or self.root

    def place_of_upload(self, name: str) -> Path:
        """Return where a file that a browser sends is written: where the user started, over nothing."""
        plain = name.isprintable() and len(name.encode()) < 200 and not set(name) & {"/", "\\"}
        if kind_of_file(name) is None or not plain or name.startswith("."):
            raise InputError(f"{name or 'a file without a name'}: only maps and models can be uploaded")
        path = self.base / name
        if path.exists():
            raise InputError(f"{name} is in {path.parent} already: open it there, or rename yours")
        return path

    def in_shell(self, path: Path) -> str:
        """Return a path as it is typed where the user started: relative to there where it lies below."""
        resolved = path.resolve()
        return str(resolved.relative_to(self.base) if resolved.is_relative_to(self.base) else resolved)

    def _allows(self, path: Path) -> bool:
        return path.is_relative_to(self.root) or not self.named.isdisjoint((path, *path.parents))

    def find(self, text: str) -> Path:
        """Return the file or folder behind a path: absolute, or relative to the root or the start.

        Raises
        ------
        InputError
            Where it is not there, or (after following links) neither below the root nor named.
        """
        if not text or "\0" in text or len(text) > 4096:
            raise InputError("this is not the name of a file")
        try:
            places = [(base / text).resolve() for base in (self.root, self.base)]
            path = next((p for p in places if self._allows(p) and p.exists()), places[0])
            allowed = self._allows(path)
            there = allowed and path.exists()
        except UnicodeError:
            # Text that no file system could hold, such as half of a surrogate pair.
            raise InputError("this is not the name of a file") from None
        except (OSError, RuntimeError):  # RuntimeError: a link that leads to itself, before Python 3.13
            there = allowed = False
        if not allowed:
            raise InputError(f"{text}: outside of the folder being viewed, {self.root}")
        if not there:
            raise InputError(f"{text}: no such file or folder")
        return path

    def shown(self, path: Path) -> str:
        """Return a path as the page shows it: relative to the root where it lies below it."""
        try:
            return path.resolve().relative_to(self.root).as_posix()
        except ValueError:
            return str(path)

    def listing(self, text: str) -> dict[str, Any]:
        """Return folders, maps, models and results of one folder, in order of name."""
        folder = self.find(text or ".")
        if not folder.is_dir():
            raise InputError(f"{text}: not a folder")
        entries = []
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    about = self._about(entry)
                    if about is not None:
                        entries.append(about)
        except OSError as error:
            raise InputError(f"{text}: {(error.strerror or str(error)).lower()}") from error
        entries.sort(key=lambda e: (e["kind"] != "folder", e["name"].lower()))
        return {
            "path": self.shown(folder),
            "parent": self.shown(folder.parent) if folder != self.root else None,
            "kind": kind_of_folder(folder),
            "entries": entries[:MOST_ENTRIES],
            "more": max(0, len(entries) - MOST_ENTRIES),
        }

    def _about(self, entry: os.DirEntry[str]) -> dict[str, Any] | None:
        if entry.name.startswith("."):
            return None
        path = Path(entry.path)
        try:
            # A link that leads out is not offered; opening it would be refused as well.
            if entry.is_symlink() and not path.resolve().is_relative_to(self.root):
                return None
            if entry.is_dir():
                kind = kind_of_folder(path) or "folder"
                return {"name": entry.name, "path": self.shown(path), "kind": kind, "bytes": None}
            file_kind = kind_of_file(entry.name)
            size = entry.stat().st_size
        except (OSError, RuntimeError):
            return None
        if file_kind is None:
            return None
        return {"name": entry.name, "path": self.shown(path), "kind": file_kind, "bytes": size}


def kind_of_file(name: str) -> str | None:
    """Return ``map`` or ``model`` by a file's name, or None."""
    lower = name.lower()
    if lower.endswith(MAP_SUFFIXES):
        return "map"
    return "model" if lower.endswith(MODEL_SUFFIXES) else None


def kind_of_folder(folder: Path) -> str | None:
    """Return ``set`` or ``result`` where a folder holds results of this program, or None."""
    if (folder / SET_RECORD).is_file():
        return "set"
    return "result" if next(folder.glob("*_occupy.json"), None) is not None else None


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


def free_name(path: Path) -> Path:
    """Return where to write one layer: not in the place of a map that a record there vouches for."""
    for record in path.parent.glob("*_occupy.json"):
        if path.name in read_record(record)["outputs"].values():
            return path.with_name(f"{path.stem}_view.mrc")
    return path
