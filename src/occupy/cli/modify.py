"""`occupy modify`: new modified maps from an earlier estimate."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.cli.console import progress, say, warn
from occupy.cli.options import SETTINGS_OF_MODIFICATION
from occupy.errors import InputError
from occupy.settings import Settings

if TYPE_CHECKING:
    from occupy.volume import Volume

_READ = ("scale", "confidence")


def _input_map(record: dict[str, Any], given: Path | None) -> Volume:
    from occupy.io.mrc import read_source

    about = record["inputs"].get("map")
    if about is None:
        raise InputError("the record names no map it was made of; estimate again")
    path = given or Path(about["path"])
    if not path.exists():
        raise InputError(f"the input map {path} is not there any more; say where it is with --map")
    volume, source = read_source(path, voxel_size=record["options"].get("voxel_size"))
    if source.sha256 != about["sha256"]:
        raise InputError(
            f"{path} is not the map this estimate was made of (its checksum differs); estimate again"
        )
    return volume


def _resolved(record: dict[str, Any], settings: Settings) -> Any:
    """Return the record's settings with the modifications asked for now."""
    from occupy.resolve import ResolvedSettings

    known = {f.name for f in fields(ResolvedSettings)}
    plain: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in record["settings"].items() if k in known
    }
    changed = {name: getattr(settings, name) for name in SETTINGS_OF_MODIFICATION}
    if changed["threads"] is None:
        del changed["threads"]
    try:
        return replace(ResolvedSettings(**plain), **changed)
    except TypeError as error:
        raise InputError(f"the record is damaged: its settings are incomplete ({error})") from error


def modify_result(
    result: Path, settings: Settings, output: Path | None, given: Path | None, quiet: bool
) -> None:
    """Read map, scale and confidence of an earlier estimate and write modified maps."""
    from occupy.report.modified import write_modified
    from occupy.report.record import find_record, output_file, read_output, read_record
    from occupy.volume import LazyMap

    path = find_record(result)
    record = read_record(path)
    for name in _READ:
        output_file(path, record, name)
    resolved = _resolved(record, settings)
    folder = output or path.parent
    with progress(path.name, quiet) as report:
        report("reading", 0, 0)
        # Names follow the earlier outputs, also where the map was renamed.
        volume = replace(_input_map(record, given), name=path.name.removesuffix("_occupy.json"))
        scale, confidence = (LazyMap.of(read_output(path, record, name)) for name in _READ)
        now = {**record, "command": sys.argv, "settings_asked": asdict(settings)}
        written, removed = write_modified(volume, scale, confidence, now, resolved, folder, report)
    for name in written:
        say(str(folder / name), quiet)
    if removed:
        say(f"removed from {folder}, as of another estimate: {', '.join(removed)}", quiet)
    if "files" not in record:
        warn(f"{path}: its record keeps no checksums; that its maps are as written was not checked", quiet)
