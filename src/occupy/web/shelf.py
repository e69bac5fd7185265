"""The files the viewer may see: those below one folder, and those the user named on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from occupy.errors import InputError
from occupy.io.mrc import SUFFIXES

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
