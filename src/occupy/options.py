"""What can be asked for, described once: fields of frozen dataclasses with help, unit and panel.

Command line, web form and record all read these descriptions. Plain Python without NumPy, so that the command
line starts at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, field, fields, is_dataclass
from pathlib import Path
from typing import Any


def option(
    default: Any, text: str, panel: str = "", unit: str = "", flags: tuple[str, ...] = (), **typer: Any
) -> Any:
    """Describe one field of a dataclass of options.

    Parameters
    ----------
    default : object
        Its default; ``...`` where it must be given.
    text : str
        Help, one sentence. The default is named where it is not a plain value.
    panel : str
        Heading under which it stands.
    unit : str
        Of its value.
    flags : tuple of str
        How it is written; by default ``--its-name``, with ``/--no-its-name`` for a switch that is on.
    **typer
        What the command line needs besides: ``metavar``, ``min``, ``max``; ``kind``, a type to read in place
        of the field's own; ``argument``, true for words without a flag.
    """
    about = {"help": text, "panel": panel, "unit": unit, "flags": flags, "typer": typer}
    return field(default=MISSING if default is ... else default, metadata=about)


def flags_of(each: Field[Any]) -> tuple[str, ...]:
    """Return how an option is written on a command line."""
    if given := each.metadata["flags"]:
        return tuple(given)
    name = each.name.rstrip("_").replace("_", "-")
    return (f"--{name}/--no-{name}" if each.default is True else f"--{name}",)


def names_of(options: type) -> frozenset[str]:
    """Return the names of the fields of a dataclass."""
    return frozenset(each.name for each in fields(options))


def as_written(*options: Any, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return options as plain values for a record, under the names they have on the command line.

    Parameters
    ----------
    *options : dataclass
        Objects whose fields are described by `option`.
    without : iterable of str
        Fields left out.
    """
    said: dict[str, Any] = {}
    for one in options:
        values = asdict(one)
        for each in fields(one):
            if each.name not in without:
                said[_written(each)] = _plain(values[each.name])
    return said


def _written(each: Field[Any]) -> str:
    if each.metadata["typer"].get("argument"):
        return each.name
    long = next(flag for flag in flags_of(each) if flag.startswith("--"))
    return long.split("/")[0].removeprefix("--").replace("-", "_")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def short_repr(thing: Any, most: int = 100) -> str:
    """Fields of a dataclass in one line: arrays by their shape only, and ``…`` for what does not fit.

    Parameters
    ----------
    thing : dataclass
        Any.
    most : int
        Characters of the line.
    """
    said = ", ".join(f"{each.name}={_in_short(getattr(thing, each.name))}" for each in fields(thing))
    room = most - len(type(thing).__name__) - 2
    return f"{type(thing).__name__}({said if len(said) <= room else said[: room - 2] + ' …'})"


def _in_short(value: Any) -> str:
    if hasattr(value, "dtype") and value.shape:
        return f"<array {'×'.join(map(str, value.shape))}>"
    if is_dataclass(value):
        return f"<{type(value).__name__}>"
    if isinstance(value, float):
        return f"{value:.4g}"
    # Of many things, none is worth the line; and the repr of a long one takes its time.
    if isinstance(value, (tuple, list, Mapping)) and len(value) > 3:
        return f"<{len(value)}>"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(_in_short(each) for each in value)})"
    return f"<{type(value).__name__}>" if callable(value) else " ".join(repr(value).split())
