"""Tables as CSV: how all are read and written, and those with one row per chain.

Tables of chains hold occupancies and B-factors asked for, compositions of classes, truth.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from occupy.errors import InputError
from occupy.io.atomic import write_text

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


@dataclass(frozen=True)
class Rows:
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


def read_rows(path: Path) -> Rows:
    """Read a CSV file whose first line names the columns.

    Raises
    ------
    InputError
        Where it is missing, is no text or no CSV, or a line has more cells than there are columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: cannot be read: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    reader = csv.DictReader(io.StringIO(text), strict=True)
    rows = []
    try:
        header = tuple(name.strip() for name in reader.fieldnames or ())
        for row in reader:
            if None in row:
                raise InputError(f"{path}: line {reader.line_num}: more cells than columns")
            rows.append((reader.line_num, {str(name).strip(): cell for name, cell in row.items()}))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not a readable CSV file ({error})") from error
    return Rows(path, header, tuple(rows))


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


def read_chain_table(path: Path) -> ChainTable:
    """Read a CSV file whose column ``chain`` (or ``unit``) names chains and whose others are numbers.

    Raises
    ------
    InputError
        Where the file is missing, has no such column, names a chain twice, or holds something else than
        numbers.
    """
    table = read_rows(path)
    header = table.header
    key = next((name for name in _KEYS if name in header), None)
    if key is None or len(set(header)) < len(header):
        what = "no column 'chain'" if key is None else "two columns of one name"
        raise InputError(f"{path}: {what}; the first line must name the columns, such as chain,occupancy")
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
    return ChainTable(columns, blocks)


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
