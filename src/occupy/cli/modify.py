"""`occupy modify` and `occupy mask`: new maps, and masks, from an earlier estimate."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.cli.console import progress, say, warn
from occupy.errors import InputError
from occupy.requests import ContentRequest, SubtractionRequest
from occupy.settings import Modification, Settings, names_of

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
        sources = (given or Path(record["inputs"]["map"]["path"]), output_file(path, record, "scale"))
        now = {**record, "command": sys.argv, "settings_asked": asdict(settings)}
        written, removed = write_modified(volume, scale, confidence, now, resolved, folder, report, sources)
    for name in written:
        say(str(folder / name), quiet)
    if removed:
        say(f"removed from {folder}, as of another estimate: {', '.join(removed)}", quiet)
    if "files" not in record:
        warn(f"{path}: its record keeps no checksums; that its maps are as written was not checked", quiet)


def _scale_of(source: Path) -> tuple[Path, Volume, dict[str, Any] | None]:
    """Return the scale map behind a file, folder or record, and the record where there is one."""
    from occupy.io.mrc import read_map
    from occupy.report.record import find_record, output_file, read_output, read_record

    if source.is_dir() or source.suffix == ".json":
        path = find_record(source)
        record = read_record(path)
        return output_file(path, record, "scale"), read_output(path, record, "scale"), record
    return source, read_map(source), None


def write_subtraction_mask(source: Path, output: Path | None, asked: SubtractionRequest, quiet: bool) -> None:
    """Write a mask for `relion_particle_subtract`."""
    from occupy.io.mrc import map_stem, write_map
    from occupy.masks import smooth, subtraction_mask

    if not (math.isfinite(asked.soft_edge) and asked.soft_edge >= 0):
        raise InputError(f"soft edge must not be negative, not {asked.soft_edge}")
    path, scale, record = _scale_of(source)
    _check_scale(scale.data, path)
    mask = subtraction_mask(scale.data, attenuate=asked.attenuate, sigmoid=asked.sigmoid, pivot=asked.pivot)
    if asked.soft_edge > 0:
        mask = smooth(mask, scale.voxel_size, asked.soft_edge)
    stem = map_stem(path).removesuffix("_scale")
    target = output or path.with_name(f"{stem}_subtraction_mask.mrc")
    write_map(target, scale.with_data(mask), "subtraction mask, 1 = keep")
    _write_mask_script(target, path, record, quiet)
    say(
        f"{target}: keeps {mask.mean():.1%} of the box; 1 is kept and 0 subtracted (RELION's convention)",
        quiet,
    )


def _content_settings(asked: ContentRequest, record: dict[str, Any] | None) -> dict[str, float | None]:
    """Return both thresholds and the gaps to close: as asked, and without a threshold the usual ones."""
    from occupy.masks import usual_content
    from occupy.report.record import number_in

    if asked.threshold is not None:
        return {"threshold": asked.threshold, "weak": asked.weak, "close": asked.close or 0.0}
    if record is None:
        raise InputError(
            "give a --threshold (a scale between 0 and 1), or the folder of an estimate instead of a map"
        )
    lowest = number_in(record, "lowest_confident_scale")
    usual = usual_content(lowest, recalibrated=bool(record["settings"].get("recalibrate")))
    weak = usual["weak"] if asked.weak is None else asked.weak
    close = usual["close"] if asked.close is None else asked.close
    return {"threshold": max(weak, usual["threshold"]), "weak": weak, "close": close}


def write_solvent_definition(source: Path, output: Path | None, asked: ContentRequest, quiet: bool) -> None:
    """Write a mask of the content, for `--solvent-mask` here and as a mask elsewhere.

    Without a threshold those of `occupy.masks.usual_content` are taken.
    """
    from occupy.io.mrc import map_stem, write_map
    from occupy.masks import solvent_definition

    path, scale, record = _scale_of(source)
    chosen: dict[str, Any] = _content_settings(asked, record)
    threshold, weak = chosen["threshold"], chosen["weak"]
    _check_scale(scale.data, path)
    mask = solvent_definition(
        scale.data,
        voxel_size=scale.voxel_size,
        **chosen,
        smallest=asked.smallest,
        extend=asked.extend,
        soft_edge=asked.soft_edge,
    )
    stem = map_stem(path).removesuffix("_scale")
    target = output or path.with_name(f"{stem}_solvent_mask.mrc")
    write_map(target, scale.with_data(mask), f"content, scale above {threshold:.3g}")
    _write_mask_script(target, path, record, quiet)
    kept = f", weak parts above {weak:.3g}" if weak is not None else ""
    share = f"{(mask > 0.5).mean():.1%} of the box"
    say(f"{target}: content (1) is {share}, scale above {threshold:.3g}{kept}", quiet)


def _write_mask_script(mask: Path, scale: Path, record: dict[str, Any] | None, quiet: bool) -> None:
    """Write a ChimeraX script beside a mask; where it cannot name the files, say so: the mask is good."""
    from occupy.io.atomic import write_text
    from occupy.io.mrc import map_stem
    from occupy.report.chimerax_files import mask_script, seen_from

    stem, folder = map_stem(mask), mask.parent
    shown, level = _map_below(folder, record)
    try:
        script = mask_script(mask.name, seen_from(folder, scale), shown, level=level)
    except InputError as error:
        warn(f"no ChimeraX script of {mask}: {error}", quiet)
        return
    # Never the name of an estimate's own script, wherever the mask was put.
    write_text(folder / f"{stem if stem.endswith('_mask') else stem + '_mask'}.cxc", script)


def _map_below(folder: Path, record: dict[str, Any] | None) -> tuple[str | None, float | None]:
    """Return an estimate's input as a script in ``folder`` names it, and its level; None where it is gone."""
    from occupy.report.chimerax_files import opens_as_read, seen_from
    from occupy.report.surfaces import level_of_record

    if record is None:
        return None, None
    try:
        volume, path = _input_map(record, None), Path(record["inputs"]["map"]["path"])
    except InputError:
        return None, None
    if not opens_as_read(folder, path, volume.voxel_size):
        return None, None
    return seen_from(folder, path), level_of_record(record, volume.data)


def _check_scale(data: Any, path: Path) -> None:
    if not (data.min() >= -1e-6 and data.max() <= 1 + 1e-6):
        raise InputError(
            f"{path}: not a scale map (values from {data.min():.3g} to {data.max():.3g}, not 0 to 1)"
        )
