"""Finished pieces of a run over particles, kept until it is done."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.io.atomic import atomic_file, explain, make_folder

_FOLDER = ".occupy-particles"


class FolderStore:
    """Arrays by name in a folder; those of another run, of other inputs or settings, are not seen.

    Parameters
    ----------
    folder : Path
        Of the results; pieces are in a folder in it.
    about : sequence of ndarray and str
        All that the pieces depend on.
    """

    def __init__(self, folder: Path, *about: npt.NDArray[Any] | str) -> None:
        digest = hashlib.sha256(__version__.encode())
        for each in about:
            content = each.encode() if isinstance(each, str) else np.ascontiguousarray(each).tobytes()
            digest.update(f"{len(content)}:".encode())
            digest.update(content)
        self._parent = folder / _FOLDER
        self._folder = self._parent / digest.hexdigest()[:16]
        for other in self._parent.glob("*"):
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        make_folder(self._folder)

    def load(self, name: str) -> dict[str, npt.NDArray[Any]] | None:
        """Return arrays that were saved under a name, or None where there are none, or damaged ones."""
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, name: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Write arrays; they are all there under the name, or none is."""
        with atomic_file(self._folder / f"{name}.npz") as part:
            try:
                with part.open("wb") as out:
                    np.savez(out, allow_pickle=False, **arrays)
            except OSError as error:
                raise explain(error, self._folder) from error


def forget_pieces(folder: Path) -> None:
    """Remove all pieces from a folder of results: the run is done."""
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)
