"""The report of regions read in one map."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from occupy.errors import Notice
from occupy.regions.table import OccupancyTable
from occupy.report.estimate_page import COLOURINGS, opening
from occupy.report.html import (
    Section,
    figure_png,
    page,
    paragraph,
    settings_table,
    surface_block,
    table,
    write_page,
)
from occupy.report.record import read_input, read_output
from occupy.report.set_figures import strip
from occupy.report.set_page import interval_table
from occupy.report.surfaces import LIMITS, Array, content_level, surface_message
from occupy.report.text import number_text

_SHOWN = 5
_READING = (
    "1 is as strong as the strongest well-filled region of the map, taken to be present in all particles. "
    "Values are medians of the local scale over a region's voxels: in a single map, low ones read too high, "
    "and parts at lower local resolution, membranes and micelles read lower than they are."
)

_FITTED = (
    "Occupancies are of a joint fit of the model's parts to the map; local scale is the median over a "
    "region's voxels. 1 is as much as the fullest parts of the model, taken to be present in all particles."
)


def write_region_report(
    path: Path, record: Mapping[str, Any], estimated: Mapping[str, Any], found: OccupancyTable, source: Path
) -> Path:
    """Write the report of the regions of one map.

    Parameters
    ----------
    path : Path
        The HTML file.
    record : mapping
        From `occupy.report.record.region_record`.
    estimated : mapping
        Record of the estimate.
    found : OccupancyTable
        What the regions read.
    source : Path
        File of the estimate's record.
    """
    return write_page(path, region_page(record, estimated, found, source))


def region_page(
    record: Mapping[str, Any], estimated: Mapping[str, Any], found: OccupancyTable, source: Path
) -> str:
    """Return the report of the regions of one map as HTML; arguments as for `write_region_report`."""
    values = found.values[:, 0]
    order = np.argsort(np.nan_to_num(values, nan=np.inf), kind="stable").tolist()
    notices = [Notice(n["code"], n["text"]) for n in record["notices"]]
    first = opening(notices, bad_fit=not estimated["numbers"]["solvent"]["good_fit"])
    sections = [
        Section("What was found", _summary(found, order)),
        Section("Regions", figure_png(strip(found), "Regions in descending order.")),
        Section(
            "Numbers", interval_table(found, order) + paragraph(_READING if found.beside is None else _FITTED)
        ),
        Section("Surface", _surface(estimated, source)),
        Section("How it was made", _made(record, estimated)),
    ]
    subtitle = f"{Path(estimated['inputs']['map']['path']).name} · {estimated['settings']['mode']} mode"
    return page(f"{found.maps[0]}: {len(found.regions)} regions", subtitle, first, sections)


def _summary(found: OccupancyTable, order: list[int]) -> str:
    values = found.values[:, 0]
    full = int((values >= 0.9).sum())
    lowest = ", ".join(f"{found.regions[i]} ({values[i]:.2f})" for i in order[:_SHOWN])
    text = f"{len(values)} regions, {full} of them at 0.9 or above. The lowest: {lowest}."
    if not np.isfinite(found.errors).any():
        text += " A single map gives no standard errors."
    return paragraph(text)


def level_in(data: Array, numbers: Mapping[str, Any]) -> float:
    """Return the contour level of a map, from the record of its estimate; see `content_level`."""
    lowest = float(numbers["lowest_confident_value"]) if numbers["solvent"]["good_fit"] else 0.0
    return content_level(data, float(numbers["full_scale_value"]), lowest, float(numbers["map_range"][1]))


def _surface(estimated: Mapping[str, Any], source: Path) -> str:
    scale = read_output(source, estimated, "scale")
    volume = read_input(estimated, scale)
    if isinstance(volume, str):
        return paragraph(f"{volume}, so its surface is not shown.")
    colouring = COLOURINGS[0]
    data, scales = volume.standard(), scale.standard()
    given = estimated["options"].get("level")
    level = float(given) if given is not None else level_in(data, estimated["numbers"])
    message = surface_message(
        data, level, {colouring.layer: (scales, 0.0, 1.0)}, spacing=volume.spacing,
        origin=[float(v) for v in volume.position((0, 0, 0))],
        dust=float(estimated["settings"]["lowpass"]) ** 3, limits=LIMITS["report"],
    )  # fmt: skip
    caption = f"Input map at level {level:.4g} (map units), coloured by the local scale beneath its surface."
    return surface_block(message, (colouring,), caption=caption)


def _made(record: Mapping[str, Any], estimated: Mapping[str, Any]) -> str:
    inputs, numbers = record["inputs"], estimated["numbers"]
    rows = [
        ("Command", shlex.join(record["command"]) or "from Python"),
        ("Map", inputs["map"]["path"]),
        ("SHA-256 of the map", inputs["map"]["sha256"]),
        *(("Model", f"{m['path']}, SHA-256 {m['sha256']}") for m in inputs.get("model", [])),
        *(("Mask", m["path"]) for m in inputs.get("masks", [])),
        ("Lowest confident scale", number_text(numbers["lowest_confident_scale"])),
        ("Regions by", record["options"]["by"] or "–"),
        ("Made", record["created"]),
    ]
    return table(rows) + settings_table(estimated["settings_asked"], estimated["settings"])
