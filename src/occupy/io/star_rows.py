"""Leave rows out of a STAR file and keep everything else byte by byte."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from occupy.errors import InputError
from occupy.io.atomic import atomic_file
from occupy.io.star import read_bytes

_SPACES = re.compile(rb"\s+")
_WORDS = re.compile(rb"'[^']*'|\"[^\"]*\"|\S+")


@dataclass(frozen=True)
class Rows:
    """Where the rows of one loop stand.

    Attributes
    ----------
    content : bytes
        The whole file, unpacked.
    lines : tuple of (int, int)
        Start and end (line end included) of each row in ``content``.
    first : str
        Name of the first column, without underscore; empty where there is no loop.
    """

    content: bytes
    lines: tuple[tuple[int, int], ...]
    first: str = ""


def _lines(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield start, end and stripped text of every line."""
    start = 0
    while start < len(content):
        stop = content.find(b"\n", start) + 1 or len(content)
        yield start, stop, content[start:stop].strip()
        start = stop


def find_rows(path: Path, block: str) -> Rows:
    """Find the rows of the loop in a block, one per line as RELION and its companions write them.

    Parameters
    ----------
    path : Path
        STAR file, may be compressed with gzip.
    block : str
        Name of the block without ``data_``; empty for the nameless block of RELION 3.0.

    Raises
    ------
    InputError
        Where the file cannot be read, or a value stretches over several lines.
    """
    content = read_bytes(path)
    rows: list[tuple[int, int]] = []
    inside = loop = False
    first = ""
    for start, stop, text in _lines(content):
        lowered = text[:5].lower()
        if lowered == b"data_":
            inside, loop = text[5:].split(b"#")[0].strip() == block.encode(), False
        elif not inside or not text or text.startswith(b"#"):
            continue
        elif lowered == b"loop_":
            loop = True
        elif text.startswith(b";"):
            raise InputError(
                f"{path}: block data_{block} holds a text of several lines; this is not supported"
            )
        elif loop and text.startswith(b"_"):
            first = first or _SPACES.split(text[1:], maxsplit=1)[0].decode("utf-8", "replace")
        elif loop:
            rows.append((start, stop))
    return Rows(content, tuple(rows), first)


def check_rows(path: Path, rows: Rows, first_column: Sequence[str]) -> None:
    """Make sure that lines and the parsed rows are the same; InputError otherwise.

    Parameters
    ----------
    path : Path
        For messages.
    rows : Rows
        From `find_rows`.
    first_column : sequence of str
        The loop's first column, from `occupy.io.star.read_star`.
    """
    same = len(rows.lines) == len(first_column)
    for (start, stop), value in zip(rows.lines, first_column, strict=False):
        word = _SPACES.split(rows.content[start:stop].strip(), maxsplit=1)[0]
        # A quoted value may hold spaces; its beginning is enough.
        plain = word.decode("utf-8", "replace").strip("'\"")
        same = same and value.startswith(plain)
    if not same:
        raise InputError(
            f"{path}: it has rows that stretch over several lines; write it anew with relion_star_handler"
        )


def write_kept(rows: Rows, keep: Sequence[bool], target: Path) -> None:
    """Write the file without the rows whose ``keep`` is false, atomically."""
    content = rows.content
    with atomic_file(target) as part, part.open("wb") as out:
        done = 0
        for (start, stop), kept in zip(rows.lines, keep, strict=True):
            if not kept:
                out.write(content[done:start])
                done = stop
        out.write(content[done:])


def write_with_column(
    rows: Rows, columns: Sequence[str], name: str, values: Sequence[str], target: Path
) -> None:
    """Write the file with one column of a loop set, or added as its last, atomically.

    Parameters
    ----------
    rows : Rows
        From `find_rows`, checked by `check_rows`.
    columns : sequence of str
        Labels of the loop, without underscore.
    name : str
        The column to set.
    values : sequence of str, one per row
        Without spaces.
    target : Path
        Where to.
    """
    at = list(columns).index(name) if name in columns else len(columns)
    content = rows.content
    with atomic_file(target) as part, part.open("wb") as out:
        done = rows.lines[0][0]
        out.write(content[:done])
        if at == len(columns):
            out.write(f"_{name} #{at + 1} \n".encode())
        for (start, stop), value in zip(rows.lines, values, strict=True):
            words = _WORDS.findall(content[start:stop])
            out.write(
                content[done:start] + b" ".join([*words[:at], value.encode(), *words[at + 1 :]]) + b"\n"
            )
            done = stop
        out.write(content[done:])
