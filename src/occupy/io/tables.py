"""Tables with one row per chain: occupancies and B-factors asked for, compositions of classes, truth."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from occupy.errors import InputError
from occupy.io.atomic import write_text

KEYS = ("chain", "unit")
NOT_VALUES = (*KEYS, "block")


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


def read_chain_table(path: Path) -> ChainTable:
    """Read a CSV file whose column ``chain`` (or ``unit``) names chains and whose others are numbers.

    Raises
    ------
    InputError
        Where the file is missing, has no such column, names a chain twice, or holds something else than
        numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
            header = [name.strip() for name in reader.fieldnames or []]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV file ({error})") from error
    key = next((name for name in KEYS if name in header), None)
    if key is None or len(set(header)) < len(header):
        what = "no column 'chain'" if key is None else "two columns of one name"
        raise InputError(f"{path}: {what}; the first line must name the columns, such as chain,occupancy")
    columns: dict[str, dict[str, float]] = {name: {} for name in header if name not in NOT_VALUES}
    blocks: dict[str, str] = {}
    seen: set[str] = set()
    for line, raw in enumerate(rows, start=2):
        row = {str(name).strip(): cell for name, cell in raw.items() if name is not None}
        chain = (row[key] or "").strip()
        if None in raw or not chain or chain in seen:
            what = (
                "more cells than columns"
                if None in raw
                else f"chain {chain!r} twice"
                if chain
                else "no chain"
            )
            raise InputError(f"{path}, line {line}: {what}")
        seen.add(chain)
        if row.get("block"):
            blocks[chain] = str(row["block"]).strip()
        for name, values in columns.items():
            cell = (row[name] or "").strip()
            if cell:
                values[chain] = _number(cell, f"{path}, line {line}, column {name}")
    if not seen:
        raise InputError(f"{path}: no rows")
    return ChainTable(columns, blocks)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: not a number: {text!r}")
    return value


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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["unit", "block", *columns])
    for unit in units or list(next(iter(columns.values()))):
        block = (blocks or {}).get(unit, unit)
        writer.writerow([unit, block, *(f"{values[unit]:.10g}" for values in columns.values())])
    write_text(path, text.getvalue())
