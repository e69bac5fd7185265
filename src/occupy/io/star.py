"""Read STAR files as RELION 3.0 to 5 writes them; leave rows out and keep everything else byte by byte."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occupy.errors import InputError
from occupy.io.atomic import atomic_file, read_errors


@dataclass(frozen=True)
class StarTable:
    """One data block: a loop, or the pairs of a plain block as a table of one row.

    Attributes
    ----------
    name : str
        The block's name without ``data_``; empty for the nameless block of RELION 3.0.
    columns : tuple of str
        Labels without underscore in front and without ``#n``, for example ``rlnPixelSize``.
    rows : tuple of tuple of str
        Values as text, quotes removed.
    source : str
        File it was read from, for messages.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    source: str = ""

    def has(self, name: str) -> bool:
        """Tell whether there is a column of this name."""
        return name in self.columns

    def column(self, name: str) -> tuple[str, ...]:
        """Return a column as text; InputError where there is none."""
        if name not in self.columns:
            raise InputError(f"{self._where()} has no column {name}")
        index = self.columns.index(name)
        return tuple(row[index] for row in self.rows)

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a column as numbers (``inf`` and ``nan`` included); InputError where one is not."""
        values = self.column(name)
        try:
            return tuple(map(float, values))
        except ValueError as error:
            wrong = next(value for value in values if not _is_number(value))
            raise InputError(f"{self._where()}: {name} should be a number, not {wrong!r}") from error

    def value(self, name: str) -> str:
        """Return the value of a column in a table of one row, as text."""
        values = self.column(name)
        if len(values) != 1:
            raise InputError(f"{self._where()} should have one row, not {len(values)}")
        return values[0]

    def _where(self) -> str:
        prefix = f"{self.source}: " if self.source else ""
        return f"{prefix}block data_{self.name}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_star(path: str | Path, *, columns: Collection[str] | None = None) -> dict[str, StarTable]:
    """Read the tables of a STAR file.

    Parameters
    ----------
    path : path-like
        The file; may be compressed with gzip.
    columns : collection of str, optional
        Keep these columns only, and of the blocks those that have any of them: one column of a file with a
        million particles costs no more memory than it must.

    Returns
    -------
    dict of str to StarTable
        By block name, without ``data_``.

    Raises
    ------
    InputError
        Where the file is missing, no STAR file, or ends within a row.
    """
    path = Path(path)
    raw, escaped = _ascii(read_bytes(path))
    tables: dict[str, StarTable] = {}
    for block in _parse(raw, path):
        name = _unescape(block.name.strip()) if escaped else block.name.strip()
        if name in tables:
            raise InputError(f"{path}: there are two blocks data_{name}")
        table = _table(block, name, path, columns, escaped)
        if table is not None:
            tables[name] = table
    return tables


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, unpacked where gzip packed it; InputError where that is not possible."""
    with read_errors(path):
        raw = path.read_bytes()
    try:
        return _unpacked(raw, path) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the compressed file is damaged or truncated") from error


def _unpacked(raw: bytes, path: Path) -> bytes:
    """Unpack what gzip packed, unless it grows as no table or model does."""
    # Tables of numbers shrink to a third or a tenth; gzip can shrink zeros a thousandfold.
    most = max(1 << 26, 200 * len(raw))
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
        found = stream.read(most)
        if stream.read(1):
            raise InputError(f"{path}: it unpacks to more than {most >> 20} MiB, which no such file does")
    return found


def _ascii(raw: bytes) -> tuple[bytes, bool]:
    """Escape what is not ASCII (paths may have it, the parser refuses it); tell whether there was any."""
    if raw.isascii():
        return raw, False
    return re.sub(rb"[\x80-\xff]", lambda found: b"\\x%02x" % found[0][0], raw), True


def _unescape(text: str) -> str:
    """Undo `_ascii` for one value."""
    raw = re.sub(rb"\\x([89a-f][0-9a-f])", lambda found: bytes([int(found[1], 16)]), text.encode())
    return raw.decode("utf-8", "replace")


def _parse(raw: bytes, path: Path) -> Any:
    from gemmi import cif

    try:
        document = cif.read_string(raw, check_level=0)
    except (ValueError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        line = re.match(r"string:(\d+)", message)
        where = f" (line {line[1]})" if line else ""
        if "Wrong number of values" in message:
            raise InputError(
                f"{path}: the STAR file is truncated or damaged: the loop that begins{where or ' there'} "
                "ends within a row"
            ) from error
        if "expected block header" in message:
            raise InputError(f"{path}: not a STAR file (no data_ block{where})") from error
        raise InputError(f"{path}: not a STAR file, or a damaged one{where}") from error
    if not len(document):
        raise InputError(f"{path}: not a STAR file (it is empty)")
    return document


def _table(
    block: Any, name: str, path: Path, wanted: Collection[str] | None, escaped: bool
) -> StarTable | None:
    """Make one table of a block; None where it has none of the wanted columns."""
    found = _columns(block, name, path)
    labels = [(_unescape(tag) if escaped else tag).lstrip("_") for tag, _ in found]
    kept = [i for i, label in enumerate(labels) if wanted is None or label in wanted]
    if wanted is not None and not kept:
        return None
    texts = [[_text(value, escaped) for value in found[i][1]] for i in kept]
    return StarTable(name, tuple(labels[i] for i in kept), tuple(zip(*texts, strict=True)), str(path))


def _columns(block: Any, name: str, path: Path) -> list[tuple[str, Any]]:
    """Return tags and values of the one loop of a block, or of its pairs."""
    loops = [item.loop for item in block if item.loop is not None]
    pairs = [item.pair for item in block if item.pair is not None]
    if len(loops) > 1 or (loops and pairs):
        raise InputError(f"{path}: block data_{name} holds more than one table, which RELION does not write")
    if loops:
        return [(tag, block.find_loop(tag)) for tag in loops[0].tags]
    return [(tag, [value]) for tag, value in pairs]


def _text(value: str, escaped: bool) -> str:
    if value[:1] in ("'", '"', ";"):
        from gemmi import cif

        value = cif.as_string(value)
    return _unescape(value) if escaped and "\\x" in value else value


_SPACES = re.compile(rb"\s+")
_WORDS = re.compile(rb"'[^']*'|\"[^\"]*\"|\S+")


@dataclass(frozen=True)
class StarRows:
    """Where the rows of one loop stand.

    Attributes
    ----------
    content : bytes
        The whole file, unpacked.
    lines : tuple of (int, int)
        Start and end (line end included) of each row in ``content``.
    columns : tuple of str
        Labels of the loop, without underscore; empty where there is none.
    """

    content: bytes
    lines: tuple[tuple[int, int], ...]
    columns: tuple[str, ...] = ()

    def write_kept(self, keep: Sequence[bool], target: Path) -> None:
        """Write the file without the rows whose ``keep`` is false, atomically."""
        with atomic_file(target) as part, part.open("wb") as out:
            done = 0
            for (start, stop), kept in zip(self.lines, keep, strict=True):
                if not kept:
                    out.write(self.content[done:start])
                    done = stop
            out.write(self.content[done:])

    def write_with_column(self, name: str, values: Sequence[str], target: Path) -> None:
        """Write the file with one column of the loop set, or added as its last, atomically.

        Parameters
        ----------
        name : str
            The column to set.
        values : sequence of str, one per row
            Without spaces.
        target : Path
            Where to.
        """
        count = len(self.columns)
        at = self.columns.index(name) if name in self.columns else count
        content = self.content
        with atomic_file(target) as part, part.open("wb") as out:
            done = self.lines[0][0]
            out.write(content[:done])
            if at == count:
                out.write(f"_{name} #{at + 1} \n".encode())
            for (start, stop), value in zip(self.lines, values, strict=True):
                words = _WORDS.findall(content[start:stop])
                words[at : at + 1] = [value.encode()]
                out.write(content[done:start] + b" ".join(words) + b"\n")
                done = stop
            out.write(content[done:])

    @classmethod
    def find(cls, path: Path, block: str) -> StarRows:
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
        loop = False
        columns: list[str] = []
        for start, stop, text in _lines(content, block.encode()):
            if text.startswith(b";"):
                raise InputError(
                    f"{path}: block data_{block} holds a text of several lines; this is not supported"
                )
            if text[:5].lower() == b"loop_":
                loop = True
            elif loop and text.startswith(b"_"):
                columns.append(_SPACES.split(text[1:], maxsplit=1)[0].decode("utf-8", "replace"))
            elif loop:
                rows.append((start, stop))
        found = cls(content, tuple(rows), tuple(columns))
        if rows and not _are_parsed(found, read_star(path, columns=columns[:1])[block].column(columns[0])):
            raise InputError(
                f"{path}: it has rows that stretch over several lines; write it anew with relion_star_handler"
            )
        return found


def _lines(content: bytes, block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield start, end and stripped text of every line of a block, but for blank lines and comments."""
    start, inside = 0, False
    while start < len(content):
        stop = content.find(b"\n", start) + 1 or len(content)
        text = content[start:stop].strip()
        if text[:5].lower() == b"data_":
            inside = text[5:].split(b"#")[0].strip() == block
        elif inside and text and not text.startswith(b"#"):
            yield start, stop, text
        start = stop


def _are_parsed(rows: StarRows, first_column: Sequence[str]) -> bool:
    """Tell whether lines and the rows as the parser has them are the same, by their first values."""
    words = (_SPACES.split(rows.content[a:b].strip(), maxsplit=1)[0] for a, b in rows.lines)
    # A quoted value may hold spaces; its beginning is enough.
    plain = (word.decode("utf-8", "replace").strip("'\"") for word in words)
    return len(rows.lines) == len(first_column) and all(map(str.startswith, first_column, plain))
