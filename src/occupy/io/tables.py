"""Small files that users write: tables with one row per chain, and selections of parts of a model.

Tables are CSV: occupancies and B-factors asked for, compositions of classes, truth. Selections are YAML:
names of regions and the parts they consist of.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occupy.errors import InputError
from occupy.io.atomic import write_text

_KEYS = ("chain", "unit")
_NOT_VALUES = (*_KEYS, "block")


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
    key = next((name for name in _KEYS if name in header), None)
    if key is None or len(set(header)) < len(header):
        what = "no column 'chain'" if key is None else "two columns of one name"
        raise InputError(f"{path}: {what}; the first line must name the columns, such as chain,occupancy")
    columns: dict[str, dict[str, float]] = {name: {} for name in header if name not in _NOT_VALUES}
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
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError(f"{source}: cannot be read: {reason}") from error
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
    text = _scalar(node, source)
    # "A, B:1-80" without brackets; within one part a comma stands between numbers.
    parts: list[str] = []
    for piece in text.split(","):
        if parts and piece.strip().lstrip("-")[:1].isdigit() and ":" in parts[-1] and ":" not in piece:
            parts[-1] += "," + piece.strip()
        else:
            parts.append(piece.strip())
    return parts


def _scalar(node: Any, source: Path) -> str:
    import yaml

    text = str(node.value).strip() if isinstance(node, yaml.ScalarNode) else ""
    if not text:
        raise InputError(f"{source}: line {node.start_mark.line + 1}: not a name or part; {_EXAMPLE}")
    return text
