"""What a run over a set was asked for, kept beside its results until it is complete, so that it can go on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from occupy._version import __version__
from occupy.io.atomic import make_folder, remove_leftovers, write_text
from occupy.report.set_record import NAME

STARTED = "occupy_set.started.json"


def asked_of(paths: Sequence[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results depend on: the program, the maps (path, size, time of change) and the options."""
    maps = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
    return {"version": __version__, "maps": maps, "options": dict(options)}


def is_complete(folder: Path) -> bool:
    """Tell whether a run has ended well: its record is written last."""
    return (folder / NAME).exists()


def has_started(folder: Path) -> bool:
    """Tell whether a run has got as far as to write into this folder."""
    return (folder / STARTED).exists()


def started_alike(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Tell whether an earlier run into this folder was asked for the same."""
    try:
        return bool(json.loads((folder / STARTED).read_text()) == json.loads(json.dumps(asked)))
    except (OSError, ValueError):
        return False


def begin(folder: Path, asked: Mapping[str, Any], *, old: Iterable[str] = ()) -> None:
    """Note what a run was asked for; results that are there stop being vouched for.

    Parameters
    ----------
    folder : Path
        Of the results; created where missing.
    asked : mapping
        From `asked_of`.
    old : iterable of str
        Files in the folder that this run makes and would leave alone when resumed. Those of an earlier run
        are gone before the note says otherwise, whenever this run is killed.
    """
    make_folder(folder)
    for name in (NAME, STARTED, *old):
        (folder / name).unlink(missing_ok=True)
    sweep(folder)
    write_text(folder / STARTED, json.dumps(asked))


def sweep(folder: Path) -> None:
    """Remove the unfinished files of killed runs and workers."""
    for place in (folder, folder / "components"):
        remove_leftovers(place)
