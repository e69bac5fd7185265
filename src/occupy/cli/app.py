"""The commands of `occupy`: which module holds each, and the two that other rooms do the work of."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from occupy._version import __version__
from occupy.cli.options import Run, app, command, with_options
from occupy.settings import Reading, names_of

COMMANDS = {
    "estimate": "estimate",
    "modify": "modify",
    "mask": "modify",
    "classes": "classes",
    "cryosparc": "app",
    "regions": "classes",
    "view": "app",
    "watch": "relion",
    "fetch": "estimate",
    "demo": "estimate",
    "simulate": "estimate",
    "select": "particles",
    "particles": "particles",
    "compare-runs": "particles",
    "relion": "relion",
    "legacy": "legacy",
}
"""Command → its module, in the order of the help. Only what is wanted is imported: a map takes no longer."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"occupy {__version__}")
        raise typer.Exit


@app.callback()
def _general(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Estimate the local scale of cryo-EM maps as a measure of occupancy."""


@command("cryosparc", app, examples=("occupy cryosparc P3 J42 --model model.cif",))
def _cryosparc(
    project: Annotated[
        str, typer.Argument(metavar="PROJECT", help="Such as P3; or the project's folder, with no instance.")
    ],
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="3D classification or heterogeneous refinement, such as J42.")
    ],
    model: Annotated[
        list[Path] | None, typer.Option(help="Model in the maps' frame; may be repeated.", show_default=False)
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="chain|residue|entity|ligand", help="What is a region of the model.", show_default=False
        ),
    ] = None,
    present: Annotated[
        float, typer.Option(help="Occupancy at which a class has a part.", min=0.0, max=1.0)
    ] = 0.7,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for groups of a project's folder.", show_default=False),
    ] = None,
) -> None:
    """Estimate a cryoSPARC classification as an External job.

    Of its project, connected to it; or as result groups, with no instance.
    """
    from occupy.suites.cryosparc import estimate_job

    words = [word for path in model or () for word in ("--model", str(path.absolute()))]
    words += ["--by", by] if by else []
    for line in estimate_job(project, job, words, present, output):
        typer.echo(line)


@command(
    "view",
    app,
    without={*names_of(Reading) - {"neighbours"}, "quiet"},
    examples=("occupy view map.mrc", "occupy view occupy_job012 --no-browser --port 8700"),
)
def _view(
    *,
    what: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MAP|FOLDER]",
            help="Map, folder of an estimate or of a set, or a folder to choose from [default: this folder].",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port to listen on [default: 8642, or a free one].", show_default=False),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address only.", show_default=False)
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            help="Answer to this name too, behind a proxy.",
            show_default=False,
        ),
    ] = None,
    reading: Reading,
    run: Run,
) -> None:
    """See maps, their scale and sets of them in the browser.

    It works through an SSH tunnel.
    """
    from occupy.web.serve import serve

    hosts = tuple(allow_host or ())
    serve(what, port=port, browser=not no_browser, hosts=hosts, neighbours=reading.neighbours)


def app_for(word: str) -> typer.Typer:
    """Return the application with one command only, or the whole where ``word`` names none.

    Describing every option of every command takes longer than estimating a small map.
    """
    for module in dict.fromkeys(COMMANDS.values() if word not in COMMANDS else [COMMANDS[word]]):
        import_module(f"occupy.cli.{module}")
    chosen = copy(app)
    chosen.registered_commands = _in_order(app.registered_commands, word)
    chosen.registered_groups = _in_order(app.registered_groups, word)
    return with_options(chosen)


def _in_order(entries: Iterable[Any], word: str) -> list[Any]:
    """Return the command or group of that name, or all in the order of the help."""
    order = list(COMMANDS)
    found = [each for each in entries if word not in COMMANDS or each.name == word]
    return sorted(found, key=lambda each: order.index(each.name))
