"""Settings between Python, the page's form and the command line, from `Settings`; values of a request."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from occupy.errors import InputError
from occupy.inputs import InputFiles
from occupy.settings import Settings


def _kinds(hint: Any) -> tuple[set[type], tuple[str, ...]]:
    """Return the plain types a setting may have, and its choices where it has some."""
    if get_origin(hint) is Literal:
        return {str}, get_args(hint)
    # A choice, or None: leave it to the program.
    choices = [kind for kind in get_args(hint) if get_origin(kind) is Literal]
    if choices:
        return {str}, get_args(choices[0])
    if isinstance(hint, UnionType):
        return {kind for kind in get_args(hint) if kind is not type(None)}, ()
    return {hint}, ()


def schema() -> list[dict[str, Any]]:
    """Describe every setting for the page's form: name, panel, help, unit, kind, choices, default."""
    hints = get_type_hints(Settings)
    out = []
    for setting in fields(Settings):
        kinds, choices = _kinds(hints[setting.name])
        kind = "text" if len(kinds) > 1 else next(iter(kinds)).__name__
        about = {key: setting.metadata[key] for key in ("panel", "help", "unit")}
        out.append(
            {"name": setting.name, "kind": kind, "choices": choices, "default": setting.default, **about}
        )
    return out


def settings_from(said: object) -> Settings:
    """Make settings of what the page sent; InputError where that is not possible."""
    if not isinstance(said, Mapping):
        raise InputError("settings must be names with values")
    hints = get_type_hints(Settings)
    given: dict[str, Any] = {}
    for name, value in said.items():
        if name not in hints:
            raise InputError(f"there is no setting {name!r}")
        given[name] = _checked(name, value, _kinds(hints[name])[0])
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except TypeError as error:
        raise InputError(str(error)) from error


def _checked(name: str, value: Any, kinds: set[type]) -> Any:
    if value is None or (type(value) in kinds):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and float in kinds:
        return float(value)
    if isinstance(value, float) and int in kinds and value.is_integer():
        return int(value)
    wanted = " or ".join(
        sorted({"bool": "yes or no", "str": "text"}.get(k.__name__, "a number") for k in kinds)
    )
    raise InputError(f"{name.replace('_', ' ')} must be {wanted}, not {value!r}")


def _exact(value: float) -> str:
    """Write a number so that it is read back as it was."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def input_words(files: InputFiles, settings: Settings, shown: Callable[[Path], str] = str) -> list[str]:
    """Return the words of a command line that read the same files.

    Parameters
    ----------
    files : InputFiles
        What was read.
    settings : Settings
        What was asked for.
    shown : callable
        How a path is written.
    """
    words = []
    if files.half_maps is not None:
        words += ["--half-maps", *map(shown, files.half_maps)]
    elif not files.neighbours and replace(files, neighbours=True).beside(settings):
        words.append("--no-neighbours")
    for flag, path in (("--solvent-mask", files.solvent_mask), ("--target-mask", files.target_mask)):
        if path is not None:
            words += [flag, shown(path)]
    if files.voxel_size is not None:
        words += ["--voxel-size", _exact(files.voxel_size)]
    return words


def command_line(path: str, settings: Settings, extra: Sequence[str] = ()) -> str:
    """Return the command that does the same in a shell."""
    words = ["occupy", "estimate", path]
    for setting in fields(Settings):
        value = getattr(settings, setting.name)
        if value == setting.default:
            continue
        flag = "--" + setting.name.replace("_", "-")
        if setting.name == "use_confidence":
            words.append("--ignore-confidence")
        elif isinstance(value, bool):
            words.append(flag)
        else:
            words += [flag, _exact(value) if isinstance(value, float) else str(value)]
    return shlex.join([*words, *extra])


Said = Mapping[str, Any]


def text(said: Said, name: str, default: str | None = None) -> str:
    """Return a request's text; InputError where it is missing or something else."""
    value = said.get(name, default)
    if not isinstance(value, str):
        raise InputError(f"{name} must be text" if name in said else f"{name} is missing")
    return value


def flag(said: Said, name: str, default: bool) -> bool:
    """Return a request's yes or no; InputError where it is something else."""
    value = said.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, not {value!r}")
    return value


def names(said: Said, name: str) -> list[str]:
    """Return a list of texts, given as such or with commas between."""
    value = said.get(name, [])
    if isinstance(value, str):
        value = [part for part in value.split(",") if part]
    if not isinstance(value, list) or len(value) > 32 or not all(isinstance(part, str) for part in value):
        raise InputError(f"{name} must be a list of names")
    return value


def number(said: Said, name: str, default: float | None = None) -> float:
    """Return a request's number; InputError where it is missing or none."""
    value = said.get(name, default)
    try:
        if value is None or isinstance(value, bool):
            raise ValueError
        out = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, not {value!r}") from None
    if not np.isfinite(out):
        raise InputError(f"{name} must be finite")
    return out


def whole(said: Said, name: str) -> int:
    """Return a request's whole number; InputError where it is missing or none."""
    value = number(said, name)
    if not value.is_integer() or abs(value) > 2**31:
        raise InputError(f"{name} must be a whole number, not {said.get(name)!r}")
    return int(value)
