"""Write files so that a final name never holds half a file; names that results can be called after."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from occupy.errors import InputError, OutputError

if sys.platform != "win32":
    import fcntl

_unfinished: set[Path] = set()
_swept: set[Path] = set()
_OF_OURS = re.compile(r"\..+\.[0-9a-f]{8}\.part")


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


@contextmanager
def read_errors(path: Path, missing: str = "no such file", suffix: str = "") -> Iterator[None]:
    """Turn what the system says of a file that is read in this block into an InputError of one line.

    Parameters
    ----------
    path : Path
        The file.
    missing : str
        What to say where there is none.
    suffix : str
        What to add to any of these lines.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: {missing}{suffix}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read: it is not text in UTF-8{suffix}") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{path}: cannot be read: {reason}{suffix}") from error


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
    if (folder := final.parent.absolute()) not in _swept:
        _swept.add(folder)
        remove_leftovers(folder)
    part = final.parent / f".{final.name}.{os.urandom(4).hex()}.part"
    # The name is known before there is a file: a signal between the two leaves nothing behind.
    _unfinished.add(part)
    lock = None
    try:
        lock = _created(part)
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
        if lock is not None:
            os.close(lock)


def _created(part: Path) -> int | None:
    """Create a file; return a descriptor that holds a lock on it, where there are locks."""
    while True:
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        if sys.platform == "win32":
            os.close(descriptor)  # Windows moves no open file
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return descriptor
        # Before the lock was there, another run may have taken the file for a left-over.
        if part.exists():
            return descriptor
        os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed or its process ends, however that is.

    Returns
    -------
    bool or None
        False where a living process holds the lock, None where the system has no locks.
    """
    if sys.platform == "win32":  # what killed runs left stays
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes of this program left half written in a folder.

    A living process holds a lock on what it writes. Where locks are not to be had, everything stays.
    """
    try:
        parts = [entry.path for entry in os.scandir(folder) if _OF_OURS.fullmatch(entry.name)]
    except OSError:  # no such folder: writing says so
        return
    for part in parts:
        with suppress(OSError):
            descriptor = os.open(part, os.O_WRONLY)
            try:
                if try_lock(descriptor):
                    Path(part).unlink()
            finally:
                os.close(descriptor)


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


def is_utf8(text: str) -> bool:
    """Tell whether a path is made of letters, and not of bytes that are none in UTF-8."""
    return not any("\udc80" <= letter <= "\udcff" for letter in text)


def is_file(path: Path) -> bool:
    """Tell whether there is a file; also of names that no file can have, for which `Path.is_file` raises."""
    return os.path.isfile(path)  # noqa: PTH113


def as_letters(name: str) -> str:
    """Return a name with the bytes that are no letters written out: the byte FF as ``xff``."""
    if is_utf8(name):
        return name
    return "".join(f"x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in name)


def check_length(path: Path, longest: int = 200) -> None:
    """Raise InputError where a file's name leaves no room for what results add to it.

    File systems take 255 bytes, and names of results add up to 40 to the input's.
    """
    size = len(os.fsencode(path.name))
    if size > longest:
        raise InputError(
            f"{path.name[:40]}…: the name is too long for results called after it ({size} bytes, at most "
            f"{longest}); rename the file"
        )
