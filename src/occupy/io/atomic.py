"""Write files so that a final name never holds half a file."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from occupy.errors import OutputError

_unfinished: set[Path] = set()


def explain(error: OSError, path: Path) -> OutputError:
    """Turn an operating system's error into one line that names the file and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"no space left while writing {path}; free some space or choose another folder with -o"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"cannot write {path}: permission denied; choose another folder with -o")
    if error.errno == errno.ENOENT:
        return OutputError(f"cannot write {path}: there is no folder {path.parent}")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return OutputError(f"cannot write {path}: a file or folder of another kind is in the way")
    return OutputError(f"cannot write {path}: {error.strerror or error}")


def make_folder(folder: Path) -> Path:
    """Create a folder for results (and its parents); OutputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, folder) from error
    return folder


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success it is moved to ``path``, on failure removed.

    Raises
    ------
    OutputError
        Where the file cannot be written.
    """
    final = Path(path)
    part = final.parent / f".{final.name}.{secrets.token_hex(4)}.part"
    # The name is known before there is a file: a signal between the two leaves nothing behind.
    _unfinished.add(part)
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield part
        part.replace(final)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and not isinstance(error, OutputError):
            raise explain(error, final) from error
        raise
    finally:
        _unfinished.discard(part)


def discard_unfinished(folder: Path) -> None:
    """Remove what this process has begun to write in a folder.

    A signal can end a program between the making of a file and the block that would remove it.
    """
    for part in [path for path in _unfinished.copy() if path.parent == folder]:
        with suppress(OSError):
            part.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    with atomic_file(path) as part:
        # Bytes of file names that are no letters are written as JSON writes, and reads, them.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
