"""Values of a request: the right kind, or an InputError that says which is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from occupy.errors import InputError

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
