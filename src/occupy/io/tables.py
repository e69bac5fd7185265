"""Small files: tables as CSV, how all are read and written; selections of parts of a model.

Tables of chains hold occupancies and B-factors asked for, compositions of classes, truth. Selections are
YAML: names of regions and the parts they consist of.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occupy.errors import InputError
from occupy.io.atomic import read_errors, write_text

_KEYS = ("chain", "unit")


@dataclass(frozen=True)
class ChainTable:
    """Numbers per chain.

    Attributes
    ----------
    columns : dict of str to (dict of str to float)
        Column → chain → number; empty cells are left out.
    blocks : dict of str to str
        Chain → block, where the table has a column ``block``.
    """

    columns: dict[str, dict[str, float]]
    blocks: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> ChainTable:
        """Read a CSV file whose column ``chain`` (or ``unit``) names chains and whose others are numbers.

        Raises
        ------
        InputError
            Where the file is missing, has no such column, names a chain twice, or holds something else than
            numbers.
        """
        table = read_rows(path, _wrong_with_chains)
        header = table.header
        key = next(name for name in _KEYS if name in header)
        columns: dict[str, dict[str, float]] = {name: {} for name in header if name not in (*_KEYS, "block")}
        blocks: dict[str, str] = {}
        seen: set[str] = set()
        for line, row in table.rows:
            chain = (row[key] or "").strip()
            if not chain or chain in seen:
                raise InputError(f"{path}: line {line}: {f'chain {chain!r} twice' if chain else 'no chain'}")
            seen.add(chain)
            if block := (row.get("block") or "").strip():
                blocks[chain] = block
            for name, values in columns.items():
                value = number_in(row[name] or "", f"{path}: line {line}: column {name}")
                if math.isfinite(value):
                    values[chain] = value
        if not seen:
            raise InputError(f"{path}: no rows")
        return cls(columns, blocks)


@dataclass(frozen=True)
class _Rows:
    """What a CSV file holds.

    Attributes
    ----------
    source : Path
        The file.
    header : tuple of str
        Names of the columns.
    rows : tuple of (int, dict)
        Number of the line, and column → text (None where the line is too short) of every row.
    """

    source: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str | None]], ...]


def read_rows(path: Path, check: Callable[[tuple[str, ...]], str | None]) -> _Rows:
    """Read a CSV file whose first line names the columns.

    Parameters
    ----------
    path : Path
        The file.
    check : callable
        ``check(header)`` returns what is wrong with the names of the columns, or None.

    Raises
    ------
    InputError
        Where it is missing or no CSV, its columns are wrong, or a line has more cells than there are columns.
    """
    with read_errors(path):
        text = path.read_text(encoding="utf-8-sig")
    reader = csv.DictReader(io.StringIO(text), strict=True)
    rows = []
    try:
        header = tuple(name.strip() for name in reader.fieldnames or ())
        if (wrong := check(header)) is not None:
            raise InputError(f"{path}: {wrong}")
        for row in reader:
            if None in row:
                raise InputError(f"{path}: line {reader.line_num}: more cells than columns")
            rows.append((reader.line_num, {str(name).strip(): cell for name, cell in row.items()}))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not a readable CSV file ({error})") from error
    return _Rows(path, header, tuple(rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


def number_in(text: str | None, where: str) -> float:
    """Return the number in a cell, NaN where it is empty; InputError where it is missing or none."""
    if text is None:
        raise InputError(f"{where}: missing")
    if not text.strip():
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where} is not a number: {text!r}")
    return value


def _wrong_with_chains(header: tuple[str, ...]) -> str | None:
    missing = not set(_KEYS) & set(header)
    if not missing and len(set(header)) == len(header):
        return None
    what = "no column 'chain'" if missing else "two columns of one name"
    return f"{what}; the first line must name the columns, such as chain,occupancy"


def write_chain_table(
    path: Path,
    columns: Mapping[str, Mapping[str, float]],
    blocks: Mapping[str, str] | None = None,
    units: Sequence[str] | None = None,
) -> None:
    """Write ``unit,block,<columns>`` with one row per chain, atomically.

    Parameters
    ----------
    path : Path
        Where to.
    columns : mapping
        Column → chain → number.
    blocks : mapping, optional
        Chain → block; by default each chain is a block of its own.
    units : sequence of str, optional
        Rows and their order; by default the chains of the first column.
    """
    rows = (
        [unit, (blocks or {}).get(unit, unit), *(f"{values[unit]:.10g}" for values in columns.values())]
        for unit in units or list(next(iter(columns.values())))
    )
    write_text(path, csv_text(["unit", "block", *columns], rows))


_EXAMPLE = "write for example  stalk: [A, B:1-80, L7]"


def read_selections(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read selections.

    Everything is taken as text, as written: a chain called ``NO`` or ``1`` is one.

    Parameters
    ----------
    path : path-like
        YAML: one mapping of names to a part (``A``, ``B:1-80``, ``B:1-80,95``) or a list of parts.

    Returns
    -------
    dict
        Name → parts, in the order of the file.

    Raises
    ------
    InputError
        Where the file is not YAML, not of this form, or names a region twice; with the line.
    """
    import yaml

    source = Path(path)
    with read_errors(source):
        text = source.read_text(encoding="utf-8-sig")
    try:
        _check_plain(text, source)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{source}: {line}not valid YAML ({problem}); {_EXAMPLE}") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{source}: no names of regions in it; {_EXAMPLE}")
    found: dict[str, tuple[str, ...]] = {}
    for key, value in root.value:
        name = _scalar(key, source)
        if name in found:
            raise InputError(f"{source}: line {key.start_mark.line + 1}: {name} comes twice")
        found[name] = tuple(_parts(value, source))
    return found


def _check_plain(text: str, source: Path) -> None:
    """Refuse references and deep nesting, by which few lines can stand for any number of parts."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{source}: line {line}: references (*{event.anchor}) are not read; {_EXAMPLE}")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > 8:
            raise InputError(f"{source}: line {line}: lists within lists within lists …; {_EXAMPLE}")


def _parts(node: Any, source: Path) -> list[str]:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return [part for item in node.value for part in _parts(item, source)]
    if isinstance(node, yaml.MappingNode):  # "B: 1-80", with a space
        return [f"{_scalar(key, source)}:{_scalar(value, source)}" for key, value in node.value]
    # "A, B:1-80" without brackets; within one part a comma stands between numbers.
    parts: list[str] = []
    for piece in map(str.strip, _scalar(node, source).split(",")):
        if parts and ":" in parts[-1] and re.match(r"-*\d[^:]*$", piece):
            parts[-1] += "," + piece
        else:
            parts.append(piece)
    return parts


def _scalar(node: Any, source: Path) -> str:
    import yaml

    text = str(node.value).strip() if isinstance(node, yaml.ScalarNode) else ""
    if not text:
        raise InputError(f"{source}: line {node.start_mark.line + 1}: not a name or part; {_EXAMPLE}")
    return text
