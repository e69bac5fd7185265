"""The records of an estimate: every setting as it held, every number found, as text; reading them."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from occupy._version import __version__
from occupy.errors import InputError
from occupy.io.checksum import ReadFile, sha256_of
from occupy.io.mrc import read_source
from occupy.numerics.histogram import Tile
from occupy.pipeline import Estimate
from occupy.report.chimerax import tile_bounds
from occupy.settings import Settings
from occupy.statistics.posterior import STANDARD_ERRORS_95
from occupy.volume import LazyMap, Volume, frame_of_box, on_finer_grid

FORMAT = 1
_PARTS = {"created", "inputs", "settings_asked", "options", "settings", "numbers", "notices", "outputs"}
_SETTINGS = ("settings_asked", "settings")


def _tile(est: Estimate, tile: Tile) -> dict[str, Any]:
    low, high = tile_bounds(est, tile)
    centre = (low + high) / 2
    side = [n * a for n, a in zip(est.full_scale.tile_size, est.settings.voxel_size, strict=True)]
    return {
        "value": tile.value,
        "centre_angstrom_xyz": [round(float(c), 3) for c in est.volume.position(centre)],
        "centre_index_section_row_column": [round(float(c), 2) for c in centre],
        "side_voxels": list(est.full_scale.tile_size),
        "side_angstrom": [round(s, 3) for s in side],
    }


def numbers_of(est: Estimate, variability_limit: float) -> dict[str, Any]:
    """Return every number an estimate found, as plain values with units in their names."""
    solvent = est.solvent
    found: dict[str, Any] = {
        "full_scale_value": est.full_scale.value,
        "full_scale_source": est.full_scale.source,
        "full_scale_tile": _tile(est, est.full_scale.largest),
        "smallest_tile": _tile(est, est.full_scale.smallest),
        "variability_limit": variability_limit,
        "lowest_confident_scale": est.lowest_confident_scale,
        "lowest_confident_value": est.curve.crossing(0.5),
        "solvent": {
            "mean": solvent.mean,
            "sigma": solvent.sigma,
            "height": solvent.height,
            "misfit": solvent.misfit,
            "good_fit": not est.solvent_fit_is_bad,
        },
        "map_range": [est.facts.low, est.facts.high],
        "equal_voxels_share": est.facts.flat_share,
    }
    if est.calibration is not None:
        c = est.calibration
        found["calibration"] = {
            "full_scale_interval_95": list(c.interval),
            "interval_95_in_standard_errors": STANDARD_ERRORS_95,
            "noise_floor": c.floor,
            "noise_floor_from": "half-maps" if c.from_halves else "solvent",
            "share_full": c.share,
        }
    if est.b_factors is not None:
        found["relative_bfactor_resolutions_angstrom"] = list(est.b_factors.bands)
    if est.fdr_level is not None:
        found["fdr_level"] = est.fdr_level
    if est.target is not None:
        found["target"] = asdict(est.target)
    return found


def _input_of(volume: Volume, file: ReadFile | Path) -> dict[str, Any]:
    """Describe an input file: where, checksum, box, voxel size and frame.

    With a `ReadFile` the checksum is that of the bytes that were read; of a path it is that of the file there
    is now, so only for files that nobody else writes.
    """
    frame = volume.frame
    if isinstance(file, ReadFile):
        path, checksum, size = file.path, file.sha256, file.stamp.size
    else:
        path, checksum, size = file, sha256_of(file), file.stat().st_size
    return {
        "path": str(path.resolve()),
        "sha256": checksum,
        "bytes": size,
        "columns_rows_sections": list(volume.shape[::-1]),
        "voxel_size_angstrom_columns_rows_sections": [round(a, 6) for a in volume.voxel_size[::-1]],
        "axes": list(frame.axes),
        "nstart": list(frame.nstart),
        "origin_angstrom_xyz": list(frame.origin),
        "space_group": frame.space_group,
    }


def opening(command: Sequence[str], what: str | None = None) -> dict[str, Any]:
    """Return what every record begins with: the program, what it is a record of, when, and the command."""
    return {
        "program": "occupy",
        "format": FORMAT,
        **({} if what is None else {"what": what}),
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
    }


def record_of(
    est: Estimate,
    asked: Settings,
    *,
    inputs: Mapping[str, tuple[Volume, ReadFile | Path]],
    outputs: Mapping[str, str],
    variability_limit: float,
    command: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the whole record of a run as plain values.

    Parameters
    ----------
    est : Estimate
        From `occupy.pipeline.estimate`.
    asked : Settings
        What the user said.
    inputs : mapping
        Role → volume and the file it was read from.
    outputs : mapping
        Product → file name within the folder of the record.
    variability_limit : float
        See `Estimate.variability_limit`.
    command : sequence of str, optional
        The command line.
    options : mapping, optional
        What else was asked for: how to read the map, what to write besides.
    """
    return {
        **opening(command or ()),
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "system": f"{platform.system()} {platform.machine()}",
            "byteorder": sys.byteorder,
        },
        "inputs": {role: _input_of(volume, path) for role, (volume, path) in inputs.items()},
        "settings_asked": asdict(asked),
        "options": dict(options or {}),
        "settings": est.settings.as_dict(),
        "numbers": numbers_of(est, variability_limit),
        "notices": [asdict(notice) for notice in est.notices],
        "outputs": dict(outputs),
    }


def plain(value: Any, infinite: bool = False) -> Any:
    """Replace what JSON cannot say: NaN by null, infinity by null or, if it is a setting, by its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value) if infinite and not math.isnan(value) else None
    if isinstance(value, Mapping):
        return {k: plain(v, infinite or k in _SETTINGS) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, infinite) for v in value]
    return value


def _infinite(value: Any) -> Any:
    """Return settings as they were before `plain`."""
    if isinstance(value, dict):
        return {k: _infinite(v) for k, v in value.items()}
    return float(value) if value in ("inf", "-inf") else value


def to_json(record: Mapping[str, Any]) -> str:
    """Return a record as JSON text (strict: no NaN; an infinite setting is ``"inf"``)."""
    return json.dumps(plain(record), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read_record(path: Path) -> dict[str, Any]:
    """Read a record; InputError where it is none, is damaged, or of a newer format."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable record of a run ({error})") from error
    if not isinstance(record, dict) or record.get("program") != "occupy":
        raise InputError(f"{path}: not a record of this program")
    if not isinstance(record.get("format"), int) or not record.keys() >= _PARTS:
        raise InputError(f"{path}: the record is incomplete")
    if record["format"] > FORMAT:
        raise InputError(f"{path}: written by a newer version ({record.get('version')}); update the program")
    if (wrong := _damaged(record)) is not None:
        raise InputError(f"{path}: the record is damaged (its {wrong} are not as this program writes them)")
    return {**record, **{part: _infinite(record[part]) for part in _SETTINGS}}


def find_record(result: Path) -> Path:
    """Return the record in a result folder (or the record itself, if given)."""
    if result.is_dir():
        found = sorted(result.glob("*_occupy.json"))
        if len(found) == 1:
            return found[0]
        what = "no" if not found else f"{len(found)}"
        raise InputError(
            f"{result}: {what} *_occupy.json there; give the folder of one estimate, or the file"
        )
    if result.suffix == ".json" and result.exists():
        return result
    raise InputError(f"{result}: no such folder or record of an estimate")


def _damaged(record: Mapping[str, Any]) -> str | None:
    """Return the part of a record that is not what it should be."""
    for part in ("inputs", "settings_asked", "options", "settings", "numbers", "outputs"):
        if not isinstance(record[part], dict):
            return part
    files = record.get("files", {})
    good = {
        "inputs": all(
            _are_texts([about.get("path"), about.get("sha256")]) if isinstance(about, dict) else False
            for about in record["inputs"].values()
        ),
        "outputs": all(_is_file_name(name) for name in record["outputs"].values()),
        "files": isinstance(files, dict) and all(_is_file(about) for about in files.values()),
        "notices": isinstance(record["notices"], list)
        and all(
            isinstance(n, dict) and _is_text(n.get("code")) and _is_text(n.get("text"))
            for n in record["notices"]
        ),
        "numbers": isinstance(record["numbers"].get("solvent"), dict),
        "withdrawn": _are_texts(record.get("withdrawn", [])),
    }
    return next((part for part, fine in good.items() if not fine), None)


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(_is_text(value) for value in values)


def _is_file(about: Any) -> bool:
    """Tell whether something describes a file that was written."""
    return isinstance(about, dict) and isinstance(about.get("bytes"), int) and _is_text(about.get("crc32"))


def _is_file_name(name: Any) -> bool:
    """Tell whether a name is one in the record's own folder."""
    return _is_text(name) and name not in ("", ".", "..") and Path(name).name == name


def number_in(record: Mapping[str, Any], *names: str) -> float:
    """Return a number that a run found; InputError where its record lacks it."""
    value: Any = record["numbers"]
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, (int, float)):
        raise InputError(f"the record lacks a number that is needed ({'.'.join(names)}); estimate again")
    return float(value)


def reach_95(numbers: Mapping[str, Any]) -> float:
    """Return half the 95 % intervals of an estimate, in its standard errors; those of 0.1 say 3.18."""
    calibration = numbers.get("calibration") or {}
    return float(calibration.get("interval_95_in_standard_errors", STANDARD_ERRORS_95))


def output_file(path: Path, record: Mapping[str, Any], product: str) -> Path:
    """Return where a map is that the run wrote whose record lies at ``path``."""
    name = record["outputs"].get(product)
    if not isinstance(name, str):
        raise InputError(f"{path}: this record names no {product} map; give the folder of an estimate")
    return path.parent / name


def read_output(path: Path, record: Mapping[str, Any], product: str) -> Volume:
    """Read a map that the run wrote whose record lies at ``path``; InputError where it is another by now.

    The record of a version before 0.2 holds no checksums of outputs; its maps are taken as they are.
    """
    return read_checked(output_file(path, record, product), record)


def on_map_grid(lazy: LazyMap, record: Mapping[str, Any]) -> LazyMap:
    """Return a map that a run wrote, perhaps with ``--output-voxel coarse``, on the grid of its input."""
    if record.get("options", {}).get("output_voxel") != "coarse":
        return lazy
    about = record["inputs"]["map"]
    shape, size = (
        tuple(about[key][::-1])
        for key in ("columns_rows_sections", "voxel_size_angstrom_columns_rows_sections")
    )
    grid = LazyMap(shape, size, lazy.frame, lazy.name)
    frame = replace(frame_of_box(grid, tuple(about["origin_angstrom_xyz"])), nstart=tuple(about["nstart"]))
    return on_finer_grid(lazy, replace(grid, frame=frame))


def read_checked(file: Path, record: Mapping[str, Any]) -> Volume:
    """Read a map that a run wrote, onto the input's grid; InputError where it is another by now."""
    about = record.get("files", {}).get(file.name)
    volume, source = read_source(file, kind="crc32")
    if about is not None and (source.stamp.size, source.checksum.hexdigest()) != (
        about["bytes"],
        about["crc32"],
    ):
        raise InputError(f"{file} is not as the run wrote it (its checksum differs); estimate again")
    refined = on_map_grid(LazyMap.of(volume), record)
    return volume if refined.shape == volume.shape else refined.volume()


def read_input(record: Mapping[str, Any], grid: Volume) -> Volume | str:
    """Return the map that was estimated, or why it can't be had: it is gone or another by now.

    Parameters
    ----------
    record : mapping
        Record of the estimate.
    grid : Volume
        A map the run wrote: a voxel size that was given in place of the header's is in it.
    """
    about = record["inputs"]["map"]
    path = Path(about["path"])
    if not path.is_file():
        return f"the map is no longer at {path}"
    try:
        volume, source = read_source(path)
    except InputError as error:
        return str(error)
    if source.sha256 != about["sha256"]:
        return f"{path} has changed since it was estimated"
    if volume.shape != grid.shape:
        return f"{path} is not on the grid of its estimate"
    return grid.with_data(volume.data)


def file_of(path: Path) -> dict[str, Any]:
    """Describe an input file: where, checksum, size."""
    return {"path": str(path.resolve()), "sha256": sha256_of(path), "bytes": path.stat().st_size}


def number_text(value: Any) -> str:
    """Return a number with four figures, or a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tile_place(tile: Mapping[str, Any]) -> str:
    """Return size and position of a tile."""
    x, y, z = tile["centre_angstrom_xyz"]
    return f"tile of {number_text(tile['side_angstrom'][0])} Å at x, y, z = {x:.1f}, {y:.1f}, {z:.1f} Å"


def full_scale_source(numbers: Mapping[str, Any]) -> str:
    """Return where full scale comes from: the calibration and its interval, the maximum, or a tile."""
    if "calibration" not in numbers:
        place = _tile_place(numbers["full_scale_tile"])
        return "maximum of the map" if numbers.get("full_scale_source") == "maximum" else place
    found = numbers["calibration"]
    low, high = (number_text(value) for value in found["full_scale_interval_95"])
    noise = number_text(found["noise_floor"] / numbers["full_scale_value"])
    return f"95 % {low} to {high}; noise reads {noise} of it (from {found['noise_floor_from']})"


def fit_text(solvent: Mapping[str, Any]) -> str:
    """Return in words how well a Gaussian fits the solvent: the misfit, and what it means above a tenth."""
    misfit = solvent["misfit"]
    if misfit is None or not math.isfinite(misfit):
        return "no fit"
    rough = bool(solvent["good_fit"]) and misfit > 0.1
    words = ": not quite a Gaussian, so confidence near its edge is rough" if rough else ""
    return f"misfit {misfit:.0%}{words}"


def number_lines(numbers: Mapping[str, Any]) -> list[str]:
    """Return the numbers of a run, one per line, with units."""
    solvent = numbers["solvent"]
    spread = f"{number_text(solvent['mean'])} ± {number_text(solvent['sigma'])}, {fit_text(solvent)}"
    lowest = number_text(numbers["lowest_confident_scale"])
    rows = [
        ("full scale", f"{number_text(numbers['full_scale_value'])} map units, {full_scale_source(numbers)}"),
        ("lowest confident scale", f"{lowest} (map value {number_text(numbers['lowest_confident_value'])})"),
        ("variability limit", number_text(numbers["variability_limit"])),
        ("solvent", spread + ("" if solvent["good_fit"] else "  BAD FIT")),
    ]
    if "target" in numbers:
        target = numbers["target"]
        error = "" if target.get("error") is None else f" ± {number_text(target['error'])}"
        rows.append(
            ("target occupancy", f"{number_text(target['occupancy'])}{error} ({target['voxels']} voxels)")
        )
    return [f"{name:<23} {text}" for name, text in rows]


def log_text(record: Mapping[str, Any]) -> str:
    """Return the text of the log file."""
    source = record["inputs"]["map"]
    size = " x ".join(str(n) for n in source["columns_rows_sections"])
    voxel = ", ".join(
        number_text(a) for a in dict.fromkeys(source["voxel_size_angstrom_columns_rows_sections"])
    )
    lines = [
        f"occupy {record['version']}, {record['created']}",
        f"command  {' '.join(record['command']) or '(from Python)'}",
        f"map      {source['path']}",
        f"         {size} voxels of {voxel} Å, sha256 {source['sha256'][:16]}…",
        "",
        "Settings as they held",
        *(f"  {name:<18} {value}" for name, value in record["settings"].items()),
        "",
        "Numbers",
        *("  " + line for line in number_lines(record["numbers"])),
        "",
        "Notices" if record["notices"] else "No notices",
        *(f"  [{n['code']}] {n['text']}" for n in record["notices"]),
        "",
        "Files",
        *(f"  {product:<20} {name}" for product, name in record["outputs"].items()),
    ]
    return "\n".join(lines) + "\n"
