"""Names of files that results can be called after."""

from __future__ import annotations

import os
from pathlib import Path

from occupy.errors import InputError

LONGEST_NAME = 200
"""Bytes of a file's name; file systems take 255, and names of results add up to 40 to the input's."""


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


def check_length(path: Path) -> None:
    """Raise InputError where a file's name leaves no room for what results add to it."""
    size = len(os.fsencode(path.name))
    if size > LONGEST_NAME:
        raise InputError(
            f"{path.name[:40]}…: the name is too long for results called after it ({size} bytes, at most "
            f"{LONGEST_NAME}); rename the file"
        )
