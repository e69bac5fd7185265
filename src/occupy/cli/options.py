"""Command-line options made from dataclasses, so that every option is described in one place."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from occupy.errors import InputError
from occupy.settings import flags_of, option

app = typer.Typer(
    name="occupy",
    help="Occupancy in cryo-EM maps. `occupy MAP` means `occupy estimate MAP`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Folder = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder for the results.", show_default=False)
]

# Sections of a help whose options have defaults that most runs keep.
_EXPERT = ("Scale", "Solvent", "Comparison", "Joint fit", "Images", "Numbering")


@dataclass(frozen=True)
class Run:
    """What every command knows."""

    quiet: bool = option(False, "Print errors only.", "Run")
    debug: bool = option(False, "Show where an error came from.", "Run")


class _Sections(TyperCommand):
    """A command whose help shows examples, then its options under their panels, those of experts last."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line: MAP..., where Typer writes {MAP...}."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.epilog.splitlines()))
        # What every run may want; experts read on. Empty sections are not written.
        first = ("Arguments", "Options", "Modification", "Output")
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in first}
        for parameter in self.get_params(ctx):
            usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
            usual = "Run" if parameter.name == "help" else usual
            title = getattr(parameter, "rich_help_panel", None) or usual
            if (words := parameter.get_help_record(ctx)) is not None:
                sections.setdefault(title, []).append(words)
        for title in sorted(sections, key=lambda title: (title == "Run", title in _EXPERT)):
            if rows := sections[title]:
                with formatter.section(title + " (expert)" * (title in _EXPERT)):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write nothing: the examples stand above the options."""


_Function = Callable[..., None]


def command(
    name: str,
    group: typer.Typer,
    without: Iterable[str] = (),
    *,
    examples: Iterable[str] = (),
    hidden: bool = False,
) -> Callable[[_Function], _Function]:
    """Make a function a command with the options of the dataclasses among its parameters; see below.

    They are looked at when the command is wanted (`with_options`): all of them take longer than a small map.
    ``examples`` are lines that its help shows before the options, of at most 78 characters.
    """

    def decorate(function: _Function) -> _Function:
        _left_out[function] = frozenset(without)
        return group.command(name, cls=_Sections, hidden=hidden, epilog="\n".join(examples))(function)

    return decorate


# Fields that a command does not offer.
_left_out: dict[_Function, frozenset[str]] = {}


def with_options(group: typer.Typer) -> typer.Typer:
    """Give the commands of a group, and of the groups in it, their options."""
    for each in group.registered_commands:
        if each.callback is not None and (without := _left_out.pop(each.callback, None)) is not None:
            each.callback = _takes_options(without)(each.callback)
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            with_options(inner.typer_instance)
    return group


def _takes_options(left_out: frozenset[str] = frozenset()) -> Callable[[_Function], _Function]:
    """Give a command the options of the dataclasses among its parameters, and hand it objects made of them.

    Parameters
    ----------
    left_out : frozenset of str
        Fields that the command does not offer; they keep their defaults.
    """

    def decorate(function: _Function) -> _Function:
        own = inspect.signature(function, eval_str=True, locals=_Names(function)).parameters.values()
        groups = {p.name: p.annotation for p in own if is_dataclass(p.annotation)}
        offered = {name: _offered(kind, left_out) for name, kind in groups.items()}

        @wraps(function)
        def run(**given: Any) -> None:
            made = {name: _made(kind, offered[name], given) for name, kind in groups.items()}
            function(**made, **given)

        parameters = [
            each
            for p in own
            for each in (offered[p.name].values() if p.name in offered else [p.replace(kind=p.KEYWORD_ONLY)])
        ]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


class _Names(dict[str, Any]):
    """What names in a command's annotations mean: those of its module, or requests, imported when wanted."""

    def __init__(self, function: _Function) -> None:
        super().__init__(function.__globals__)

    def __missing__(self, name: str) -> Any:
        return vars(builtins).get(name) or getattr(import_module("occupy.requests"), name)


def _offered(options: Any, left_out: frozenset[str]) -> dict[str, inspect.Parameter]:
    """Return the parameter that Typer reads for every field of a dataclass."""
    hints = get_type_hints(options)
    return {f.name: _parameter(f, hints[f.name]) for f in fields(options) if f.name not in left_out}


def _parameter(each: Field[Any], hint: Any) -> inspect.Parameter:
    about = dict(each.metadata["typer"])
    several = _is_several(hint)
    kind = about.pop("kind", list[get_args(hint)[0]] if several else hint)  # type: ignore[misc]
    argument = about.pop("argument", False)
    about["help"] = _help_of(each)
    about["rich_help_panel"] = each.metadata["panel"] or None
    flags = flags_of(each)
    default = inspect.Parameter.empty if each.default is MISSING else each.default
    if default in (None, ()) or (default is False and "/" not in flags[0]):
        # Its help says what is done without it.
        about.setdefault("show_default", False)
    if default == ():
        kind, default = kind | None, None
    described = typer.Argument(**about) if argument else typer.Option(*flags, **about)
    return inspect.Parameter(
        each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, described]
    )


def _help_of(each: Field[Any]) -> str | None:
    text, unit = each.metadata["help"], each.metadata["unit"]
    return f"{text} ({unit})" if unit else text or None


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
