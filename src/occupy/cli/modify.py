"""`occupy modify` and `occupy mask`: new maps, and masks, from an earlier estimate."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from occupy.cli.console import progress, say, warn
from occupy.cli.options import Folder, Run, app, command
from occupy.errors import InputError
from occupy.requests import ContentRequest, SubtractionRequest
from occupy.settings import Estimation, Modification, Settings, names_of

if TYPE_CHECKING:
    from occupy.volume import Volume

_mask_app = typer.Typer(help="Make masks from a scale map.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(_mask_app, name="mask")

_File = Annotated[Path | None, typer.Option("-o", "--output", help="File to write.", show_default=False)]
_ScaleMap = Annotated[Path, typer.Argument(metavar="SCALE", help="Scale map, or the folder of an estimate.")]


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


@command(
    "modify",
    app,
    without=names_of(Estimation),
    examples=(
        "occupy modify occupy_map --amplify 3",
        "occupy modify occupy_map --sigmoid 5 --pivot 0.4 --lowpass-output 6",
    ),
)
def _modify(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="Folder of an earlier estimate, or its _occupy.json.")
    ],
    *,
    output: Folder = None,
    map: Annotated[
        Path | None,
        typer.Option("--map", help="The input map, where it is no longer where it was.", show_default=False),
    ] = None,
    run: Run,
    settings: Settings,
) -> None:
    """Make new modified maps from an earlier estimate."""
    from occupy.report.modified import write_modified
    from occupy.report.record import find_record, output_file, read_output, read_record
    from occupy.volume import LazyMap

    path = find_record(result)
    record = read_record(path)
    for name in ("scale", "confidence"):
        output_file(path, record, name)
    resolved = _resolved(record, settings)
    folder = output or path.parent
    with progress(path.name, run.quiet) as report:
        report("reading", 0, 0)
        # Names follow the earlier outputs, also where the map was renamed.
        volume = replace(_input_map(record, map), name=path.name.removesuffix("_occupy.json"))
        scale, confidence = (LazyMap.of(read_output(path, record, name)) for name in ("scale", "confidence"))
        sources = (map or Path(record["inputs"]["map"]["path"]), output_file(path, record, "scale"))
        now = {**record, "command": sys.argv, "settings_asked": asdict(settings)}
        written, removed = write_modified(volume, scale, confidence, now, resolved, folder, report, sources)
    for name in written:
        say(str(folder / name), run.quiet)
    if removed:
        say(f"removed from {folder}, as of another estimate: {', '.join(removed)}", run.quiet)
    if "files" not in record:
        warn(
            f"{path}: its record keeps no checksums; that its maps are as written was not checked", run.quiet
        )


def _scale_of(source: Path) -> tuple[Path, Volume, dict[str, Any] | None]:
    """Return the scale map behind a file, folder or record, and the record where there is one."""
    from occupy.io.mrc import read_map
    from occupy.report.record import find_record, output_file, read_output, read_record

    if source.is_dir() or source.suffix == ".json":
        path = find_record(source)
        record = read_record(path)
        return output_file(path, record, "scale"), read_output(path, record, "scale"), record
    return source, read_map(source), None


@command(
    "subtraction",
    _mask_app,
    examples=(
        "occupy mask subtraction occupy_map --attenuate 3",
        "occupy mask subtraction occupy_map --sigmoid 5 --pivot 0.4 --soft-edge 6",
    ),
)
def _mask_subtraction(
    scale: _ScaleMap,
    *,
    output: _File = None,
    asked: SubtractionRequest,
    run: Run,
) -> None:
    """Mask for particle subtraction, RELION's convention: 1 is kept, 0 is subtracted."""
    from occupy.io.mrc import map_stem, write_map
    from occupy.masks import smooth, subtraction_mask

    if not (math.isfinite(asked.soft_edge) and asked.soft_edge >= 0):
        raise InputError(f"soft edge must not be negative, not {asked.soft_edge}")
    path, volume, record = _scale_of(scale)
    _check_scale(volume.data, path)
    mask = subtraction_mask(volume.data, attenuate=asked.attenuate, sigmoid=asked.sigmoid, pivot=asked.pivot)
    if asked.soft_edge > 0:
        mask = smooth(mask, volume.voxel_size, asked.soft_edge)
    stem = map_stem(path).removesuffix("_scale")
    target = output or path.with_name(f"{stem}_subtraction_mask.mrc")
    write_map(target, volume.with_data(mask), "subtraction mask, 1 = keep")
    _write_mask_script(target, path, record, run.quiet)
    say(
        f"{target}: keeps {mask.mean():.1%} of the box; 1 is kept and 0 subtracted (RELION's convention)",
        run.quiet,
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


@command(
    "solvent",
    _mask_app,
    examples=(
        "occupy mask solvent occupy_map --soft-edge 6",
        "occupy mask solvent occupy_map --threshold 0.3 --smallest 4000 --extend 4",
    ),
)
def _mask_solvent(
    scale: _ScaleMap,
    *,
    output: _File = None,
    asked: ContentRequest,
    run: Run,
) -> None:
    """Solvent definition: 1 where there is content, with a soft edge, keeping weak density."""
    from occupy.io.mrc import map_stem, write_map
    from occupy.masks import solvent_definition

    path, volume, record = _scale_of(scale)
    chosen: dict[str, Any] = _content_settings(asked, record)
    threshold, weak = chosen["threshold"], chosen["weak"]
    _check_scale(volume.data, path)
    mask = solvent_definition(
        volume.data,
        voxel_size=volume.voxel_size,
        **chosen,
        smallest=asked.smallest,
        extend=asked.extend,
        soft_edge=asked.soft_edge,
    )
    stem = map_stem(path).removesuffix("_scale")
    target = output or path.with_name(f"{stem}_solvent_mask.mrc")
    write_map(target, volume.with_data(mask), f"content, scale above {threshold:.3g}")
    _write_mask_script(target, path, record, run.quiet)
    kept = f", weak parts above {weak:.3g}" if weak is not None else ""
    share = f"{(mask > 0.5).mean():.1%} of the box"
    say(f"{target}: content (1) is {share}, scale above {threshold:.3g}{kept}", run.quiet)


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
