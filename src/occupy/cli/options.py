"""Command-line options made from `Settings`, so that every setting is described in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from occupy.settings import Settings

_FLAGS = {"use_confidence": "--use-confidence/--ignore-confidence"}
SETTINGS_OF_MODIFICATION = frozenset(
    {
        "exclude_solvent", "use_confidence", "amplify", "attenuate", "sigmoid", "pivot", "scale_limit",
        "lowpass_output", "match_histogram", "seed", "threads",
    }
)  # fmt: skip

SETTINGS_OF_ESTIMATE = frozenset(
    {
        "mode", "estimator", "resolution", "lowpass", "kernel_size", "kernel_radius", "tau", "tile_size",
        "naive", "recalibrate", "max_box", "threads",
    }
)  # fmt: skip


def _option(setting: Field[Any], kind: Any) -> Any:
    """Return the annotated type Typer wants for one setting."""
    about = setting.metadata
    text = about["help"] + (f" ({about['unit']})" if about["unit"] else "")
    flag = _FLAGS.get(setting.name, "--" + setting.name.replace("_", "-"))
    given: dict[str, Any] = {"help": text, "rich_help_panel": about["panel"]}
    if setting.name == "tile_size":
        return Annotated[str | None, typer.Option(flag, metavar="N|LENGTH", show_default=False, **given)]
    if setting.default is None:
        given["show_default"] = False
    if kind is bool and setting.name not in _FLAGS:
        return Annotated[bool, typer.Option(flag, show_default=False, **given)]
    return Annotated[kind, typer.Option(flag, **given)]


def takes_settings(
    only: frozenset[str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `Settings` and hand it a ``settings`` argument made of them.

    Parameters
    ----------
    only : frozenset of str, optional
        Names of the settings to offer; all by default.
    """
    hints = get_type_hints(Settings)
    offered = [f for f in fields(Settings) if only is None or f.name in only]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        kept = [p for p in own.parameters.values() if p.name != "settings"]
        added = [parameter(f.name, _option(f, hints[f.name]), f.default) for f in offered]
        names = {f.name for f in offered}

        @wraps(command)
        def run(*positional: Any, **given: Any) -> None:
            chosen = {name: given.pop(name) for name in names}
            command(*positional, settings=Settings(**chosen), **given)

        return with_parameters(run, kept + added)

    return decorate


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """Return a keyword parameter for `with_parameters`."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_parameters(command: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """Give a function the signature that Typer reads its options from."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command
