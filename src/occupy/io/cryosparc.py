"""CryoSPARC's tables (.cs) and result groups (.csg), which its *Import Result Group* takes in.

A group is a small YAML file: what a table holds (particles, a volume, a mask), and for each slot of it
(blob, ctf, alignments3D, map…) the table beside it that has the slot's columns. A job writes its own columns
into one table and those it was given into another, the passthrough table, with the same ``uid``.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.atomic import atomic_file, read_errors, write_text

_Table = npt.NDArray[Any]
_CLASS_GROUP = re.compile(r"particles_(?:class|cluster)_(\d+)")
# Slots that are numbered by class or component are of the type that has no number.
_NUMBERED_SLOTS = {"alignments_class": "alignments3D", "components_mode": "components"}
_VERSION = "v4.4.1"
"""Of cryoSPARC, in groups whose particles came without one: the layout is that version's."""


def read_structured(path: Path) -> _Table:
    """Read the structured array of a .cs file; nothing in it is unpickled."""
    try:
        with read_errors(path), path.open("rb") as stream:
            magic = stream.read(6)
            if magic != b"\x93NUMPY":
                newer = "CSDAT" in magic.decode("latin1")
                what = "in cryoSPARC's newer CSDAT format; export it as NumPy" if newer else "not a .cs file"
                raise InputError(f"{path}: {what}")
            stream.seek(0)
            _check_size(stream, path)
            content = np.load(stream, allow_pickle=False)
    except InputError:
        raise
    # NumPy parses the header as Python does: damage can end in nearly any error.
    except Exception as error:
        pickled = "pickle" in str(error)
        why = "it holds pickled objects, which are not read" if pickled else "damaged or truncated"
        raise InputError(f"{path}: {why}") from error
    if content.dtype.names is None or content.ndim != 1:
        raise InputError(f"{path}: not a table of particles")
    return np.asarray(content)


def _check_size(stream: BinaryIO, path: Path) -> None:
    """Make sure that the table a .cs file announces is not larger than the file; back to its start."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    left = os.fstat(stream.fileno()).st_size - stream.tell()
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > left:
        raise InputError(f"{path}: damaged or truncated: it announces more particles than it holds")
    stream.seek(0)


def write_rows(source: Path, content: _Table, target: Path) -> None:
    """Write some rows of a table of particles and, beside them, their result group.

    Slots that the source's own group takes from its passthrough table are written too, for these rows, so
    that the group is as complete as the source's.

    Parameters
    ----------
    source : Path
        The .cs file that the rows are of.
    content : ndarray, shape (N,)
        The rows.
    target : Path
        The .cs file to write; the group has the same name with .csg.

    Raises
    ------
    InputError
        Where the images' paths hold only beside the source, and the target is elsewhere.
    """
    _check_paths(source, content, target)
    group = next(
        (g for g in _groups_in(source.parent) if source.name in _tables(g)), _Group("", _VERSION, {})
    )
    tables, slots = {target.name: content}, _slots_of(content, target.name, group.slots)
    for number, beside in enumerate(sorted(_tables(group) - {source.name})):
        rows = _rows_of(source.parent / beside, content)
        if rows is not None:
            name = f"{target.stem}_passthrough{number or ''}{target.suffix}"
            tables[name] = rows
            slots = _slots_of(rows, name, group.slots) | slots
    _write(target, "particle", tables, slots, group.version)


def write_item(target: Path, kind: str, fields: Mapping[str, Any]) -> None:
    """Write a volume or a mask as a table of one row and its result group.

    Parameters
    ----------
    target : Path
        The .cs file; paths in the fields that begin with ``>`` count from its folder.
    kind : str
        ``volume`` or ``mask``.
    fields : mapping of str to value
        Columns of its slot: ``path``, ``shape``, ``psize_A``.
    """
    slot = {"volume": "map", "mask": "mask"}[kind]
    values = [np.array(value.encode() if isinstance(value, str) else value) for value in fields.values()]
    columns = [
        (f"{slot}/{name}", value.dtype, value.shape) for name, value in zip(fields, values, strict=True)
    ]
    content = np.zeros(1, dtype=[("uid", "<u8"), *columns])
    content["uid"] = zlib.crc32(str(target.absolute()).encode())
    for (name, *_), value in zip(columns, values, strict=True):
        content[name] = value
    _write(target, kind, {target.name: content}, {slot: _Slot(target.name, f"{kind}.blob")}, _VERSION)


def particles_by_class(folder: Path) -> dict[int, int]:
    """Return class or cluster → number of its particles, as the groups in a job's folder say.

    A job that sorts particles has a group for each class: ``particles_class_0``, ``particles_cluster_0``.
    """
    counts: dict[int, int] = {}
    for group in _groups_in(folder):
        named = _CLASS_GROUP.fullmatch(group.name)
        if named and group.slots:
            counts[int(named[1])] = max(0, *(slot.count for slot in group.slots.values()))
    return counts


@dataclass(frozen=True)
class _Slot:
    """Where a slot's columns are: name of the table beside the group, type of the slot, rows."""

    table: str
    kind: str
    count: int = 0


@dataclass(frozen=True)
class _Group:
    """What a .csg file says: name of the group, cryoSPARC's version, slots by name."""

    name: str
    version: str
    slots: Mapping[str, _Slot]


def _tables(group: _Group) -> set[str]:
    """Return the names of the tables of a group."""
    return {slot.table for slot in group.slots.values()}


def _groups_in(folder: Path) -> Iterator[_Group]:
    """Read the groups of a folder; what is not one is passed over, since nothing depends on it."""
    import yaml

    for path in sorted(folder.glob("*.csg")):
        try:
            said = yaml.safe_load(path.read_text(encoding="utf-8"))
            slots = {
                str(name): _Slot(
                    str(slot["metafile"]).removeprefix(">"), str(slot["type"]), int(slot["num_items"])
                )
                for name, slot in said["results"].items()
            }
            yield _Group(str(said["group"]["name"]), str(said.get("version", _VERSION)), slots)
        # Of damaged YAML nearly any error can come.
        except Exception:
            continue


def _slots_of(content: _Table, table: str, known: Mapping[str, _Slot]) -> dict[str, _Slot]:
    """Return the slots that a table has columns of, with the types that a group said they are of."""
    names = dict.fromkeys(name.partition("/")[0] for name in content.dtype.names or () if "/" in name)
    return {name: _Slot(table, known[name].kind if name in known else _kind_of(name)) for name in names}


def _kind_of(slot: str) -> str:
    """Return the type of a slot of particles: those numbered by class or component have the type of one."""
    plain = re.sub(r"_\d+$", "", slot)
    return f"particle.{_NUMBERED_SLOTS.get(plain, slot)}"


def _rows_of(path: Path, content: _Table) -> _Table | None:
    """Return the rows of a passthrough table for the same particles; None where it isn't there."""
    if not path.is_file() or "uid" not in (content.dtype.names or ()):
        return None
    other = read_structured(path)
    if "uid" not in (other.dtype.names or ()):
        return None
    order = np.argsort(other["uid"])
    at = np.searchsorted(other["uid"], content["uid"], sorter=order)
    rows = other[order[np.minimum(at, len(order) - 1)]] if len(order) else other
    return rows if np.array_equal(rows["uid"], content["uid"]) else None


def _check_paths(source: Path, content: _Table, target: Path) -> None:
    """Paths of exported particles count from the folder of their table: refuse to write it elsewhere."""
    if source.absolute().parent == target.absolute().parent:
        return
    for name in content.dtype.names or ():
        if name.endswith("/path") and content.dtype[name].kind in "SU":
            sign = b">" if content.dtype[name].kind == "S" else ">"
            if np.char.startswith(content[name], sign).any():
                raise InputError(
                    f"{target}: the images of {source.name} are named from its folder; write into "
                    f"{source.absolute().parent}"
                )


def _write(
    target: Path, kind: str, tables: Mapping[str, _Table], slots: Mapping[str, _Slot], version: str
) -> None:
    """Write tables, and then the group that names them."""
    import yaml

    group = target.with_suffix(".csg")
    # An older group must not vouch for tables that are about to replace its own.
    group.unlink(missing_ok=True)
    for name, content in tables.items():
        with atomic_file(target.with_name(name)) as part, part.open("wb") as out:
            np.lib.format.write_array(out, content, allow_pickle=False)
    said = {
        "created": datetime.now(),
        "group": {
            "description": "Written by OccuPy",
            "name": target.stem,
            "title": target.stem.replace("_", " "),
            "type": kind,
        },
        "results": {
            name: {"metafile": f">{slot.table}", "num_items": len(tables[slot.table]), "type": slot.kind}
            for name, slot in slots.items()
        },
        "version": version,
    }
    write_text(group, yaml.safe_dump(said, allow_unicode=True))
