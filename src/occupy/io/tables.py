"""Small files that users write: tables with one row per chain, and selections of parts of a model.

Tables are CSV: occupancies and B-factors asked for, compositions of classes, truth. Selections are YAML:
names of regions and the parts they consist of.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occupy.errors import InputError
from occupy.io.atomic import read_errors, write_text

_KEYS = ("chain", "unit")
_BEYOND = "\0"  # name of the cells that have none


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
    header, rows = _csv_rows(path)
    key = next((name for name in _KEYS if name in header), None)
    if key is None or len(set(header)) < len(header):
        what = "no column 'chain'" if key is None else "two columns of one name"
        raise InputError(f"{path}: {what}; the first line must name the columns, such as chain,occupancy")
    found = ChainTable({name: {} for name in header if name not in (*_KEYS, "block")}, {})
    seen: set[str] = set()
    for line, row in enumerate(rows, start=2):
        _add_row(found, seen, row, row[key], f"{path}, line {line}")
    if not seen:
        raise InputError(f"{path}: no rows")
    return found


def _add_row(found: ChainTable, seen: set[str], row: Mapping[str, str], chain: str, where: str) -> None:
    if _BEYOND in row:
        raise InputError(f"{where}: more cells than columns")
    if not chain or chain in seen:
        raise InputError(f"{where}: {f'chain {chain!r} twice' if chain else 'no chain'}")
    seen.add(chain)
    if row.get("block"):
        found.blocks[chain] = row["block"]
    for name, values in found.columns.items():
        if row.get(name):
            values[chain] = _number(row[name], f"{where}, column {name}")


def _csv_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read names and rows of a CSV file, without spaces around."""
    try:
        with read_errors(path), path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restkey=_BEYOND)
            rows = [{str(k).strip(): str(v or "").strip() for k, v in row.items()} for row in reader]
            return [name.strip() for name in reader.fieldnames or []], rows
    except csv.Error as error:
        raise InputError(f"{path}: not a readable CSV file ({error})") from error


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


_EXAMPLE = "write for example  stalk: [A, B:1-80, L7]"
_DEEPEST = 8


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
        if depth > _DEEPEST:
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
