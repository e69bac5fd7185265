"""The viewer's secrets: a cookie for the browser, and addresses that let a browser in once.

An address can be seen by others: on a screen, in a log, in a browser's history, and, where a program is
started with it, by every user of the computer (``ps``). So it holds a code that is used up by the first
visit, and a browser is started with the name of a file only its user can read.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
import tempfile
import threading
from pathlib import Path

# Addresses that were asked for and not used yet; more are only made by somebody leaning on the Enter key.
_MOST_CODES = 20


class Access:
    """Who may come in.

    Parameters
    ----------
    code : str, optional
        A first code that lets in once; made by `new_code` otherwise.

    Attributes
    ----------
    secret : str
        What the browser's cookie holds.
    """

    def __init__(self, code: str | None = None) -> None:
        self.secret = secrets.token_urlsafe(24)
        self._codes = [] if code is None else [code]
        self._lock = threading.Lock()

    def new_code(self) -> str:
        """Return a code that lets one browser in, once."""
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._codes = [*self._codes, code][-_MOST_CODES:]
        return code

    def use(self, given: str) -> bool:
        """Tell whether a code lets in; from then on it does not."""
        with self._lock:
            found = [code for code in self._codes if same(given, code)]
            self._codes = [code for code in self._codes if code not in found]
        return bool(found)


def same(given: str, secret: str) -> bool:
    """Compare in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def private_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder only this user can look into, in the system's place for such where it has one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        try:
            found = Path(runtime).stat()
            # As the XDG specification asks of it; anything else may be somebody else's.
            if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700:
                return tempfile.TemporaryDirectory(prefix="occupy-view-", dir=runtime)
        except (OSError, AttributeError):
            pass
    return tempfile.TemporaryDirectory(prefix="occupy-view-")


def write_door(folder: Path, address: str) -> Path:
    """Write a page that leads to an address, readable by this user only."""
    path = folder / "occupy.html"
    page = (
        '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
        f'<meta http-equiv="refresh" content="0;url={address}"><title>OccuPy</title>'
    )
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
        stream.write(page)
    return path
