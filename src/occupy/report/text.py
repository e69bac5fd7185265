"""The record of a run as text for people: the log file and the summary on the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from occupy.errors import Notice


def short_names(names: Sequence[str]) -> list[str]:
    """Return names of maps for people: class 1 for run_it025_class001, where that tells all apart."""
    short = [re.sub(r"^.*_class0*(\d+)$", r"class \1", name) for name in names]
    return short if len(set(short)) == len(short) else list(names)


def number_text(value: Any) -> str:
    """Return a number with four figures, or a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def tile_place(tile: Mapping[str, Any]) -> str:
    """Return size and position of a tile."""
    x, y, z = tile["centre_angstrom_xyz"]
    return f"tile of {number_text(tile['side_angstrom'][0])} Å at x, y, z = {x:.1f}, {y:.1f}, {z:.1f} Å"


def full_scale_source(numbers: Mapping[str, Any]) -> str:
    """Return where full scale comes from: the calibration and its interval, the maximum, or a tile."""
    if "calibration" not in numbers:
        place = tile_place(numbers["full_scale_tile"])
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


# Half-maps that were found beside a map and used: the result is better for it.
_INFORMATION = ("neighbours",)


def doubtful(notices: Sequence[Notice]) -> list[Notice]:
    """Return the notices that make a result doubtful."""
    return [notice for notice in notices if notice.code not in _INFORMATION]


def information(notices: Sequence[Notice]) -> list[Notice]:
    """Return the notices that are only worth knowing."""
    return [notice for notice in notices if notice.code in _INFORMATION]
