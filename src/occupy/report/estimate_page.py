"""The report of one map, and that of regions read in it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import Notice
from occupy.pipeline import Estimate
from occupy.regions.table import OccupancyTable
from occupy.report.chimerax import contour_level, tile_sphere
from occupy.report.figures import modification_figure, slices_figure, solvent_figure
from occupy.report.html import (
    Colouring,
    Section,
    figure_png,
    page,
    paragraph,
    settings_table,
    surface_block,
    table,
    verdict,
    write_page,
)
from occupy.report.palette import CONFIDENCE, MINIMUM_SCALE, SCALE
from occupy.report.record import fit_text, full_scale_source, number_text, read_input, read_output
from occupy.report.set_figures import strip
from occupy.report.set_page import interval_table
from occupy.report.surfaces import LIMITS, Array, carried, level_in, surface_message, unpack
from occupy.volume import answer_in

_BAD = "The solvent fit is bad: do not trust the confidence, nor maps weighted by it."
_UNSUITABLE = "This map is not suitable: "
_READING = (
    "1 is as strong as the strongest well-filled region of the map, taken to be present in all particles. "
    "Between the lowest confident scale and 1, scale is roughly the share of particles in which a part was "
    "present; below it, content can't be told from solvent. Lower resolution reads as lower scale, and "
    "membranes, micelles and amorphous parts have another contrast than protein: their scale is not an "
    "occupancy."
)
_OCCUPANCY = (
    " That is what was measured. Occupancy is what it most likely stands for, given that many parts are full "
    "and readings have errors: what reads nearly full most likely is."
)
_COLOURINGS = {
    "occupancy": Colouring("occupancy", "occupancy", MINIMUM_SCALE, 1.0, SCALE),
    "scale": Colouring("local scale", "scale", MINIMUM_SCALE, 1.0, SCALE),
    "confidence": Colouring("confidence", "confidence", 0.0, 1.0, CONFIDENCE),
}


def colourings(est: Estimate) -> tuple[Colouring, ...]:
    """Return how the surface of a map can be coloured; by default by its occupancy, where one is stated.

    What is full reads full there, while scales of full parts scatter below 1 (benchmarks/surfaces.py).
    """
    return tuple(colouring for layer, colouring in _COLOURINGS.items() if layer in est.maps)


def write_report(
    path: Path,
    est: Estimate,
    record: Mapping[str, Any],
    *,
    level: float | None = None,
    begin: Callable[[str], str] = str,
) -> Path:
    """Write the report of one map.

    Parameters
    ----------
    path : Path
        The HTML file.
    est : Estimate
        What was found.
    record : mapping
        From `occupy.report.record.record_of`.
    level : float, optional
        Contour level of the surface, in map units.
    begin : callable, optional
        Is told the title of each section that takes time before it is made, and returns it.
    """
    return write_page(path, _estimate_page(est, record, level=level, begin=begin))


def _estimate_page(
    est: Estimate,
    record: Mapping[str, Any],
    *,
    level: float | None = None,
    begin: Callable[[str], str] = str,
) -> str:
    """Return the report of one map as HTML."""
    source = record["inputs"]["map"]
    size = " × ".join(str(n) for n in source["columns_rows_sections"])
    voxel = ", ".join(f"{a:.4g}" for a in dict.fromkeys(source["voxel_size_angstrom_columns_rows_sections"]))
    subtitle = f"{Path(source['path']).name} · {size} voxels of {voxel} Å · {est.settings.mode} mode"
    sections = [
        Section(begin("Surface"), _surface(est, level)),
        Section(
            "Numbers",
            _numbers(record["numbers"]) + paragraph(_READING + _OCCUPANCY * ("occupancy" in est.maps)),
        ),
        Section(
            begin("Slices"), figure_png(slices_figure(est), "Central slices of input, scale and confidence.")
        ),
        Section(
            begin("Solvent"),
            figure_png(solvent_figure(est), "Histogram, solvent fit and the confidence it gives."),
        ),
    ]
    s = est.settings
    if not s.amplify is s.attenuate is s.sigmoid is None:
        drawn = modification_figure(s, 0.0 if s.recalibrate else est.lowest_confident_scale)
        sections.append(Section("Modification", figure_png(drawn, "Output scale against input scale.")))
    sections.append(Section("How it was made", _made(record)))
    first = _opening(est.notices, bad_fit=est.solvent_fit_is_bad)
    return page(f"{est.volume.name}: local scale", subtitle, first, sections)


def _opening(notices: Sequence[Notice], *, bad_fit: bool) -> str:
    """Return what a reader of results of one map must know first."""
    codes = {notice.code for notice in notices}
    bad = [_BAD] if bad_fit else []
    bad += [_UNSUITABLE + what for code, what in (
        ("masked", "it is masked or solvent-flattened."),
        ("contrast", "its contrast seems to be inverted."),
        ("stack", "it looks like a stack of images."),
    ) if code in codes]  # fmt: skip
    return verdict(notices, bad=" ".join(bad))


def surface_of(
    est: Estimate,
    level: float | None = None,
    limits: tuple[int, int] = LIMITS["report"],
    painted: Mapping[str, Array] | None = None,
) -> tuple[bytes, float]:
    """Return the surface of a map with what colours it, packed for the browser, and its level."""
    volume = est.volume
    contour = contour_level(est) if level is None else level
    layers = {name: (layer, 0.0, 1.0) for name, layer in (painted or _painted(est)).items()}
    origin = [float(v) for v in volume.position((0, 0, 0))]
    message = surface_message(
        volume.standard(), contour, layers, spacing=volume.spacing, origin=origin,
        dust=est.settings.lowpass**3, limits=limits,
    )  # fmt: skip
    return message, contour


def _painted(est: Estimate) -> dict[str, Array]:
    """Return what colours the surface of a map; the occupancy is that of the carried scale."""
    maps, volume, calibration = est.maps, est.volume, est.calibration
    scale, confidence = (volume.with_data(maps[name].data).standard() for name in ("scale", "confidence"))
    painted = carried(volume.standard(), {"scale": scale}, volume.spacing[::-1]) | {"confidence": confidence}
    if calibration is not None:
        painted["occupancy"] = calibration.occupancy_of(painted["scale"])
    return {each.layer: painted[each.layer] for each in colourings(est)}


def _surface(est: Estimate, level: float | None) -> str:
    painted = _painted(est)
    message, contour = surface_of(est, level, painted=painted)
    caption = (
        "Input map, coloured by the matter beneath its surface; at level "
        f"{contour:.4g} (map units) unless the slider says otherwise."
    )
    # A lower and a higher one for the slider, as far as they show something; on a grid so much coarser that
    # each weighs about a quarter.
    limits = LIMITS["report"][0], max(1000, int(0.15 * unpack(message)[0]["triangles"]))
    others = [share * contour for share in (0.6, 1.6)]
    levels = [
        surface_of(est, other, limits, painted)[0] for other in others if 0 < other < 0.9 * est.facts.high
    ]
    if est.full_scale.source != "tile":
        return surface_block(message, colourings(est), levels=levels, caption=caption)
    lines = _circles(*tile_sphere(est, est.full_scale.largest))
    caption += " Green: the tile that gave full scale."
    return surface_block(message, colourings(est), levels=levels, lines=lines, caption=caption)


def _circles(centre: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.float64]:
    """Return three circles around a point, as line segments (n, 2, 3)."""
    angle = np.linspace(0, 2 * np.pi, 41)
    segments = []
    for axis in range(3):
        points = np.tile(np.asarray(centre, dtype=np.float64), (len(angle), 1))
        points[:, (axis + 1) % 3] += radius * np.cos(angle)
        points[:, (axis + 2) % 3] += radius * np.sin(angle)
        segments.append(np.stack([points[:-1], points[1:]], axis=1))
    return np.concatenate(segments)


def _numbers(numbers: Mapping[str, Any]) -> str:
    solvent = numbers["solvent"]
    source = full_scale_source(numbers)
    if "calibration" in numbers:
        source = f"from the histogram of the local maxima; {source}"
    misfit = fit_text(solvent)
    rows = [
        ("Full scale", number_text(numbers["full_scale_value"]), "map units", source),
        ("Lowest confident scale", number_text(numbers["lowest_confident_scale"]), "of full scale",
         "below it, content can't be told from solvent"),
        ("Lowest confident value", number_text(numbers["lowest_confident_value"]), "map units", ""),
        ("Variability limit", number_text(numbers["variability_limit"]), "of full scale",
         "mean of the map where the scale is 1"),
        ("Solvent", f"{number_text(solvent['mean'])} ± {number_text(solvent['sigma'])}", "map units",
         misfit if solvent["good_fit"] else f"{misfit} – BAD FIT"),
        ("Range of the map", " to ".join(number_text(v) for v in numbers["map_range"]), "map units", ""),
    ]  # fmt: skip
    if "target" in numbers:
        target = numbers["target"]
        rows.append(
            ("Target occupancy", number_text(target["occupancy"]), "", f"mask of {target['voxels']} voxels")
        )
    return table(rows, ("number", "value", "unit", ""))


def _made(record: Mapping[str, Any]) -> str:
    source = record["inputs"]["map"]
    rows = [
        ("Command", " ".join(record["command"]) or "from Python"),
        ("Map", source["path"]),
        ("SHA-256 of the map", source["sha256"]),
        ("Made", record["created"]),
    ]
    return table(rows) + settings_table(record["settings_asked"], record["settings"])


_READING_REGIONS = (
    "1 is as strong as the strongest well-filled region of the map, taken to be present in all particles. "
    "Values are medians over a region's voxels, of the occupancy where the estimate states one, otherwise of "
    "the local scale: in a single map, low ones read too high, "
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
    return write_page(path, _region_page(record, estimated, found, source))


def _region_page(
    record: Mapping[str, Any], estimated: Mapping[str, Any], found: OccupancyTable, source: Path
) -> str:
    """Return the report of the regions of one map as HTML; arguments as for `write_region_report`."""
    values = found.values[:, 0]
    order = np.argsort(np.nan_to_num(values, nan=np.inf), kind="stable").tolist()
    notices = [Notice(n["code"], n["text"]) for n in record["notices"]]
    first = _opening(notices, bad_fit=not estimated["numbers"]["solvent"]["good_fit"])
    sections = [
        Section("What was found", _summary(found, order)),
        Section("Regions", "".join(figure_png(page, "Regions, the lowest first.") for page in strip(found))),
        Section(
            "Numbers",
            interval_table(found, order) + paragraph(_READING_REGIONS if found.beside is None else _FITTED),
        ),
        Section("Surface", _region_surface(estimated, source)),
        Section("How it was made", _regions_made(record, estimated)),
    ]
    subtitle = f"{Path(estimated['inputs']['map']['path']).name} · {estimated['settings']['mode']} mode"
    return page(f"{found.maps[0]}: {len(found.regions)} regions", subtitle, first, sections)


def _summary(found: OccupancyTable, order: list[int]) -> str:
    values = found.values[:, 0]
    full = int((values >= 0.9).sum())
    lowest = ", ".join(f"{found.regions[i]} ({values[i]:.2f})" for i in order[:5])
    text = f"{len(values)} regions, {full} of them at 0.9 or above. The lowest: {lowest}."
    if not np.isfinite(found.errors).any():
        text += " A single map gives no standard errors."
    return paragraph(text)


def _region_surface(estimated: Mapping[str, Any], source: Path) -> str:
    colouring = _COLOURINGS[answer_in(estimated["outputs"])]
    scale = read_output(source, estimated, colouring.layer)
    volume = read_input(estimated, scale)
    if isinstance(volume, str):
        return paragraph(f"{volume}, so its surface is not shown.")
    data = volume.standard()
    painted = carried(data, {colouring.layer: scale.standard()}, volume.spacing[::-1])
    given = estimated["options"].get("level")
    level = float(given) if given is not None else level_in(data, estimated["numbers"])
    message = surface_message(
        data, level, {name: (layer, 0.0, 1.0) for name, layer in painted.items()}, spacing=volume.spacing,
        origin=[float(v) for v in volume.position((0, 0, 0))],
        dust=float(estimated["settings"]["lowpass"]) ** 3, limits=LIMITS["report"],
    )  # fmt: skip
    caption = f"Input map at level {level:.4g} (map units), coloured by the {colouring.title} beneath."
    return surface_block(message, (colouring,), caption=caption)


def _regions_made(record: Mapping[str, Any], estimated: Mapping[str, Any]) -> str:
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
