"""The record of a set, ``occupy_set.json``: what it was made of, how, what was found and where it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any, Literal

from occupy._version import __version__
from occupy.ensemble.components import Component
from occupy.ensemble.pipeline import SetEstimate
from occupy.errors import InputError, Notice
from occupy.io.atomic import make_folder, remove_leftovers, write_text
from occupy.io.mapset import ClassMap, MapSet
from occupy.report.contents import NAME as NAME
from occupy.report.contents import changed_file
from occupy.report.record import opening, plain


def set_record(
    found: MapSet | None,
    est: SetEstimate,
    components: Sequence[Component],
    *,
    of_classes: Mapping[str, Mapping[str, str]],
    outputs: Mapping[str, Any],
    options: Mapping[str, Any],
    inputs: Mapping[str, Any],
    notices: Sequence[Notice],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return the record as plain values.

    Parameters
    ----------
    found : MapSet or None
        The set as it was found; None where its maps were in memory.
    est : SetEstimate
    components : sequence of Component
    of_classes : mapping
        Class → product → file name.
    outputs : mapping
        Product of the set → file name.
    options, inputs : mapping
        What was asked for, and the model and masks given.
    notices : sequence of Notice
    command : sequence of str
    """
    known = {} if found is None else {entry.name: entry for entry in found.maps}
    scaled = est.scaled
    return {
        **opening(command, "set"),
        "kind": None if found is None else found.kind,
        "source": None if found is None else str(found.source.resolve()),
        "iteration": None if found is None else found.iteration,
        "base": None if found is None else found.base,
        "options": dict(options),
        "inputs": dict(inputs),
        "maps": [
            {
                "name": name,
                **_source_of(known.get(name)),
                "share": round(float(est.weights[k]), 6),
                "resolution_angstrom": round(float(scaled.resolutions[k]), 3),
                "outputs": dict(of_classes.get(name, {})),
            }
            for k, name in enumerate(est.names)
        ],
        "numbers": set_numbers(est),
        "components": [{"name": c.name, "volume_angstrom3": round(c.volume)} for c in components],
        "notices": [asdict(notice) for notice in notices],
        "outputs": dict(outputs),
    }


def _source_of(entry: ClassMap | None) -> dict[str, Any]:
    return {
        "number": entry and entry.number,
        "path": entry and str(entry.path.resolve()),
        "weight": entry and entry.weight,
        "particles": entry and entry.particles,
    }


def set_numbers(est: SetEstimate) -> dict[str, Any]:
    """Return every number found of a whole set, as plain values with units in their names."""
    scaled = est.scaled
    return {
        "common_resolution_angstrom": round(scaled.resolution, 3),
        "working_voxel_size_angstrom": [round(a, 4) for a in scaled.voxel_size],
        "full_value": est.full.value * est.unit,
        "spread_of_full_regions": est.full.spread,
        "scatter_without_difference": est.null.level,
        "width_of_its_logarithm": est.null.width,
        "content_angstrom3": float(est.content.sum()) * float(prod(scaled.voxel_size)),
    }


def read_set_record(folder: Path) -> dict[str, Any]:
    """Read the record of a set from its folder (or the file itself); InputError where it is none."""
    path = folder / NAME if folder.is_dir() else folder
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: no record of a set here; occupy classes makes one") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged record ({error})") from error
    if not isinstance(record, dict) or record.get("what") != "set" or "maps" not in record:
        raise InputError(f"{path} is not the record of a set (made by occupy classes)")
    if (wrong := _damaged(record)) is not None:
        raise InputError(f"{path}: the record is damaged (its {wrong} are not as this program writes them)")
    return record


def _damaged(record: Mapping[str, Any]) -> str | None:
    """Return the part of a record that is not what it should be."""
    maps, notices = record["maps"], record.get("notices")
    good = {
        "maps": isinstance(maps, list) and maps and all(map(_is_map, maps)),
        "outputs": _are_files(record.get("outputs")),
        "notices": isinstance(notices, list) and all(isinstance(n, dict) for n in notices),
    }
    return next((part for part, fine in good.items() if not fine), None)


def _is_map(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str) and _are_files(entry.get("outputs"))


def _are_files(outputs: Any) -> bool:
    """Tell whether outputs name files in the record's folder."""
    return isinstance(outputs, dict) and all(
        isinstance(name, str) and not Path(name).is_absolute() and ".." not in Path(name).parts
        for name in outputs.values()
    )


STARTED = "occupy_set.started.json"


def request_of(paths: Sequence[Path], options: Mapping[str, Any]) -> dict[str, Any]:
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


def earlier_run(folder: Path, asked: Mapping[str, Any]) -> tuple[Literal["none", "begun", "done"], str]:
    """Tell how far an earlier run that was asked for the same has come, and why it is of no use.

    Parameters
    ----------
    folder : Path
        Of its results.
    asked : mapping
        From `request_of`.
    """
    try:
        alike = json.loads((folder / STARTED).read_text()) == json.loads(json.dumps(asked, allow_nan=False))
    except OSError:
        return "none", ""
    except ValueError:
        alike = False
    if not alike:
        return "none", "nothing to go on from (other maps or options); starting anew"
    # The record is written last.
    if not (folder / NAME).exists():
        return "begun", ""
    reason = _what_changed(folder)
    return ("done", "") if reason is None else ("none", f"starting anew, as {reason}")


def _what_changed(folder: Path) -> str | None:
    """Return why the record of a complete run can't vouch for its files; None where all are as written."""
    try:
        files = read_set_record(folder).get("files")
    except InputError as error:
        return str(error)
    if not isinstance(files, dict):
        return "its record is of a version that kept no checksums"
    return changed_file(folder, files)


def _remove_earlier(folder: Path) -> list[str]:
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


def begin(folder: Path, asked: Mapping[str, Any], *, old: Iterable[str] | None = ()) -> list[str]:
    """Note what a run was asked for; results that are there stop being vouched for.

    Parameters
    ----------
    folder : Path
        Of the results; created where missing.
    asked : mapping
        From `request_of`.
    old : iterable of str
        Files in the folder that this run makes and would leave alone when resumed. Those of an earlier run
        are gone before the note says otherwise, whenever this run is killed. None: this run goes on.

    Returns
    -------
    list of str
        Files of an earlier run that were removed.
    """
    make_folder(folder)
    removed = [] if old is None else _remove_earlier(folder)
    for name in (NAME, STARTED, *(old or ())):
        (folder / name).unlink(missing_ok=True)
    sweep(folder)
    write_text(folder / STARTED, json.dumps(asked, allow_nan=False))
    return removed


def sweep(folder: Path) -> None:
    """Remove the unfinished files of killed runs and workers."""
    for place in (folder, folder / "components"):
        remove_leftovers(place)
