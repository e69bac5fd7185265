"""`occupy modify`: new modified maps from an earlier estimate."""

from __future__ import annotations

import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from occupy.cli.console import progress, say
from occupy.cli.mask import find_record
from occupy.cli.options import SETTINGS_OF_MODIFICATION
from occupy.errors import InputError
from occupy.settings import Settings


def _input_map(record: dict[str, Any], given: Path | None) -> Path:
    from occupy.report.record import sha256_of

    path = given or Path(record["inputs"]["map"]["path"])
    if not path.exists():
        raise InputError(f"the input map {path} is not there any more; say where it is with --map")
    if sha256_of(path) != record["inputs"]["map"]["sha256"]:
        raise InputError(
            f"{path} is not the map this estimate was made of (its checksum differs); estimate again"
        )
    return path


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
    from occupy.io.mrc import read_map
    from occupy.report.modified import write_modified
    from occupy.report.record import output_file, read_record

    path = find_record(result)
    record = read_record(path)
    files = {name: output_file(path, record, name) for name in ("scale", "confidence")}
    resolved = _resolved(record, settings)
    source = _input_map(record, given)
    with progress(source.name, quiet) as report:
        report("reading", 0, 0)
        volume = read_map(source, voxel_size=record["options"].get("voxel_size"))
        # Names follow the earlier outputs, also where the map was renamed.
        volume = replace(volume, name=path.name.removesuffix("_occupy.json"))
        maps = {name: read_map(file) for name, file in files.items()}
        now = {**record, "command": sys.argv, "settings_asked": asdict(settings)}
        written = write_modified(
            volume, maps["scale"], maps["confidence"], now, resolved, output or path.parent, report
        )
    for name in written:
        say(str((output or path.parent) / name), quiet)
