"""Command-line options made from dataclasses, so that every option is described in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from occupy.errors import InputError
from occupy.options import flags_of, option


@dataclass(frozen=True)
class Run:
    """What every command knows."""

    quiet: bool = option(False, "Print errors only.")
    debug: bool = option(False, "Show where an error came from.")


Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.", show_default=False)]
Command = Callable[..., None]


def takes_options(without: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Give a command the options of the dataclasses among its parameters, and hand it objects made of them.

    Parameters
    ----------
    without : iterable of str
        Fields that the command does not offer; they keep their defaults.
    """
    left_out = frozenset(without)

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters.values()
        groups = {p.name: p.annotation for p in own if is_dataclass(p.annotation)}
        offered = {name: _offered(kind, left_out) for name, kind in groups.items()}

        @wraps(command)
        def run(**given: Any) -> None:
            made = {name: _made(kind, offered[name], given) for name, kind in groups.items()}
            command(**made, **given)

        parameters = [
            each
            for p in own
            for each in (offered[p.name].values() if p.name in offered else [p.replace(kind=p.KEYWORD_ONLY)])
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _offered(options: Any, left_out: frozenset[str]) -> dict[str, inspect.Parameter]:
    """Return the parameter that Typer reads for every field of a dataclass."""
    hints = get_type_hints(options)
    return {f.name: _parameter(f, hints[f.name]) for f in fields(options) if f.name not in left_out}


def _parameter(each: Field[Any], hint: Any) -> inspect.Parameter:
    about = dict(each.metadata["typer"])
    several = _is_several(hint)
    kind = about.pop("kind", list[get_args(hint)[0]] if several else hint)  # type: ignore[misc]
    argument = about.pop("argument", False)
    unit = each.metadata["unit"]
    about["help"] = each.metadata["help"] + (f" ({unit})" if unit else "") or None
    about["rich_help_panel"] = each.metadata["panel"] or None
    flags = flags_of(each)
    default = inspect.Parameter.empty if each.default is MISSING else each.default
    if default is None or default == () or (default is False and "/" not in flags[0]):
        # Its help says what is done without it.
        about.setdefault("show_default", False)
    if default == ():
        kind, default = kind | None, None
    described = typer.Argument(**about) if argument else typer.Option(*flags, **about)
    return inspect.Parameter(
        each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, described]
    )


def _is_several(hint: Any) -> bool:
    """Tell whether a type is a tuple of any length, for which Typer wants a list."""
    return get_origin(hint) is tuple and get_args(hint)[-1] is ...


def _made(kind: Any, offered: Iterable[str], given: dict[str, Any]) -> Any:
    """Make a dataclass of what was given, and take that out; InputError where the class refuses it."""
    hints = get_type_hints(kind)
    values = {name: given.pop(name) for name in offered}
    for name, value in values.items():
        if _is_several(hints[name]):
            values[name] = tuple(value or ())
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
