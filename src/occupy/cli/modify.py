"""`occupy modify` and `occupy mask`: new maps, and masks, from an earlier estimate."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.cli.console import progress, say, warn
from occupy.errors import InputError
from occupy.options import names_of
from occupy.requests import ContentRequest, SubtractionRequest
from occupy.settings import Modification, Settings

if TYPE_CHECKING:
    from occupy.volume import Volume


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
    changed = {name: getattr(settings, name) for name in names_of(Modification)}
    if settings.threads is not None:
        changed["threads"] = settings.threads
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
    for name in ("scale", "confidence"):
        output_file(path, record, name)
    resolved = _resolved(record, settings)
    folder = output or path.parent
    with progress(path.name, quiet) as report:
        report("reading", 0, 0)
        # Names follow the earlier outputs, also where the map was renamed.
        volume = replace(_input_map(record, given), name=path.name.removesuffix("_occupy.json"))
        scale, confidence = (LazyMap.of(read_output(path, record, name)) for name in ("scale", "confidence"))
        now = {**record, "command": sys.argv, "settings_asked": asdict(settings)}
        written, removed = write_modified(volume, scale, confidence, now, resolved, folder, report)
    for name in written:
        say(str(folder / name), quiet)
    if removed:
        say(f"removed from {folder}, as of another estimate: {', '.join(removed)}", quiet)
    if "files" not in record:
        warn(f"{path}: its record keeps no checksums; that its maps are as written was not checked", quiet)


def _scale_file(source: Path) -> tuple[Path, dict[str, Any] | None]:
    """Return the scale map behind a file, folder or record, and the record where there is one."""
    from occupy.report.record import find_record, output_file, read_record

    if source.is_dir() or source.suffix == ".json":
        path = find_record(source)
        record = read_record(path)
        return output_file(path, record, "scale"), record
    return source, None


def write_subtraction_mask(source: Path, output: Path | None, asked: SubtractionRequest, quiet: bool) -> None:
    """Write a mask for `relion_particle_subtract`."""
    from occupy.io.mrc import map_stem, read_map, write_map
    from occupy.masks import smooth, subtraction_mask

    if not (math.isfinite(asked.soft_edge) and asked.soft_edge >= 0):
        raise InputError(f"soft edge must not be negative, not {asked.soft_edge}")
    path, _ = _scale_file(source)
    scale = read_map(path)
    _check_scale(scale.data, path)
    mask = subtraction_mask(scale.data, attenuate=asked.attenuate, sigmoid=asked.sigmoid, pivot=asked.pivot)
    if asked.soft_edge > 0:
        mask = smooth(mask, scale.voxel_size, asked.soft_edge)
    stem = map_stem(path).removesuffix("_scale")
    target = output or path.with_name(f"{stem}_subtraction_mask.mrc")
    write_map(target, scale.with_data(mask), "subtraction mask, 1 = keep")
    say(
        f"{target}: keeps {mask.mean():.1%} of the box; 1 is kept and 0 subtracted (RELION's convention)",
        quiet,
    )


# A scale that is content in any map: no threshold chosen for the user lies above it.
_SURE = 0.5


def _default_thresholds(record: dict[str, Any]) -> tuple[float, float]:
    """Return the scale that is content, and the lower one that is content where it touches such.

    Both on the scale map's own axis: recalibration has put the lowest confident scale at zero.
    """
    from occupy.report.record import number_in

    weak = number_in(record, "lowest_confident_scale")
    strong = max(weak, min(_SURE, 2 * weak))
    if record["settings"].get("recalibrate"):
        return (strong - weak) / (1 - weak), 0.0
    return strong, weak


def write_solvent_definition(source: Path, output: Path | None, asked: ContentRequest, quiet: bool) -> None:
    """Write a mask of the content, for `--solvent-mask` here and as a mask elsewhere.

    Without a threshold, what is confidently content is kept where it touches something twice as strong.
    """
    from occupy.io.mrc import map_stem, read_map, write_map
    from occupy.masks import solvent_definition

    path, record = _scale_file(source)
    threshold, weak = asked.threshold, asked.weak
    if threshold is None:
        if record is None:
            raise InputError(
                "give a --threshold (a scale between 0 and 1), or the folder of an estimate instead of a map"
            )
        strong, lowest = _default_thresholds(record)
        weak = lowest if weak is None else weak
        threshold = max(weak, strong)
    scale = read_map(path)
    _check_scale(scale.data, path)
    mask = solvent_definition(
        scale.data,
        threshold,
        scale.voxel_size,
        weak=weak,
        smallest=asked.smallest,
        extend=asked.extend,
        soft_edge=asked.soft_edge,
    )
    stem = map_stem(path).removesuffix("_scale")
    target = output or path.with_name(f"{stem}_solvent_mask.mrc")
    write_map(target, scale.with_data(mask), f"content, scale above {threshold:.3g}")
    kept = f", weak parts above {weak:.3g}" if weak is not None else ""
    share = f"{(mask > 0.5).mean():.1%} of the box"
    say(f"{target}: content (1) is {share}, scale above {threshold:.3g}{kept}", quiet)


def _check_scale(data: Any, path: Path) -> None:
    if not (data.min() >= -1e-6 and data.max() <= 1 + 1e-6):
        raise InputError(
            f"{path}: not a scale map (values from {data.min():.3g} to {data.max():.3g}, not 0 to 1)"
        )
