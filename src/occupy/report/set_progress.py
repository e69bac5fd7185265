"""What a run over a set was asked for, kept beside its results until it is complete, so that it can go on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from occupy._version import __version__
from occupy.errors import InputError
from occupy.io.atomic import make_folder, remove_leftovers, write_text
from occupy.report.contents import changed_file
from occupy.report.record import plain
from occupy.report.set_record import NAME, read_set_record

STARTED = "occupy_set.started.json"


def asked_of(paths: Sequence[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results depend on: the program, the maps (path, size, time of change) and the options."""
    maps = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
    return {"version": __version__, "maps": maps, "options": plain(options, infinite=True)}


def refuse_changed_maps(asked: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """Raise InputError where a map of a set is not what it was when the run began."""
    for (name, size, changed), path in zip(asked["maps"], paths, strict=True):
        try:
            now = path.stat()
        except OSError as error:
            raise InputError(f"{name}: the map went away while the set was worked on") from error
        if (now.st_size, now.st_mtime_ns) != (size, changed):
            raise InputError(f"{name}: the map changed while the set was worked on; run again")


def is_complete(folder: Path) -> bool:
    """Tell whether a run has ended well: its record is written last."""
    return (folder / NAME).exists()


def what_changed(folder: Path) -> str | None:
    """Return why the record of a complete run can't vouch for its files; None where all are as written."""
    try:
        files = read_set_record(folder).get("files")
    except InputError as error:
        return str(error)
    if not isinstance(files, dict):
        return "its record is of a version that kept no checksums"
    return changed_file(folder, files)


def remove_earlier(folder: Path) -> list[str]:
    """Remove what an earlier run over a set wrote, as its record says, and nobody changed since; list it."""
    removed = []
    try:
        record = read_set_record(folder)
        when = (folder / NAME).stat().st_mtime_ns
        for name in record.get("files", {}):
            path = folder / name
            # The record is written last: what is younger was changed, or is of another run.
            inside = path.resolve().is_relative_to(folder.resolve())
            if inside and path.is_file() and path.stat().st_mtime_ns <= when:
                path.unlink()
                removed.append(name)
    except (InputError, OSError, TypeError):
        pass
    return removed


def has_started(folder: Path) -> bool:
    """Tell whether a run has got as far as to write into this folder."""
    return (folder / STARTED).exists()


def started_alike(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Tell whether an earlier run into this folder was asked for the same."""
    try:
        return bool(
            json.loads((folder / STARTED).read_text()) == json.loads(json.dumps(asked, allow_nan=False))
        )
    except (OSError, ValueError):
        return False


def begin(folder: Path, asked: Mapping[str, Any], *, old: Iterable[str] | None = ()) -> list[str]:
    """Note what a run was asked for; results that are there stop being vouched for.

    Parameters
    ----------
    folder : Path
        Of the results; created where missing.
    asked : mapping
        From `asked_of`.
    old : iterable of str
        Files in the folder that this run makes and would leave alone when resumed. Those of an earlier run
        are gone before the note says otherwise, whenever this run is killed. None: this run goes on.

    Returns
    -------
    list of str
        Files of an earlier run that were removed.
    """
    make_folder(folder)
    removed = [] if old is None else remove_earlier(folder)
    for name in (NAME, STARTED, *(old or ())):
        (folder / name).unlink(missing_ok=True)
    sweep(folder)
    write_text(folder / STARTED, json.dumps(asked, allow_nan=False))
    return removed


def sweep(folder: Path) -> None:
    """Remove the unfinished files of killed runs and workers."""
    for place in (folder, folder / "components"):
        remove_leftovers(place)
