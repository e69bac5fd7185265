"""The report of a set of maps, made from what `occupy classes` wrote."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from occupy.errors import Notice
from occupy.io.mrc import read_map
from occupy.regions.table import OccupancyTable
from occupy.report.html import (
    LARGEST,
    Colouring,
    Section,
    escaped,
    figure_png,
    heat_map,
    page,
    paragraph,
    settings_table,
    surface_block,
    table,
    verdict,
    write_page,
)
from occupy.report.palette import SCALE, UNCERTAINTY
from occupy.report.set_figures import by_difference, map_tree, set_forest
from occupy.report.set_figures import heat_map as heat_map_figure
from occupy.report.surfaces import LIMITS, Array, carried, clear_level, spread_of, surface_message
from occupy.report.tables import cell_text, note_text, short_names
from occupy.volume import Volume

NAME = "occupy_report.html"

_CELLS_DOWN, _COLUMNS = 40, 30
_ROWS, _MAPS, _PAGES = 60, 12, 3
_GROUP = "set"
_OCCUPANCY = Colouring("occupancy", "occupancy", 0.0, 1.0, SCALE)
_OF_SET = (
    Colouring("mean occupancy", "mean_occupancy", 0.0, 1.0, SCALE),
    Colouring("variability (standard deviation between classes)", "variability", 0.0, 0.5, UNCERTAINTY),
)
_BAD = {
    "misaligned": "A class is not aligned with the others: its occupancies can't be trusted.",
    "iteration-0": "These are the references the job started from, not its results.",
}
_READING = (
    "1 is as full as the parts of the complex that are present in all particles of a class, 0 is absent. "
    "Values are medians over a region's voxels. Standard errors are calibrated on simulated sets whose "
    "classes differ in composition; a part that moves, or is poorly aligned, reads as lower occupancy."
)


def write_set_report(
    folder: Path, record: Mapping[str, Any], found: OccupancyTable | None, *, name: str = NAME
) -> Path:
    """Write the report of a set beside its results.

    Parameters
    ----------
    folder : Path
        Where `occupy classes` wrote.
    record : mapping
        From `occupy.report.set_record.set_record`.
    found : OccupancyTable or None
        Occupancies of regions and components; None where there are none.
    name : str
        The HTML file.
    """
    return write_page(folder / name, _set_page(folder, record, found))


def _set_page(folder: Path, record: Mapping[str, Any], found: OccupancyTable | None) -> str:
    """Return the report of a set as HTML; arguments as for `write_set_report`."""
    composite = read_map(folder / record["outputs"]["composite"])
    size = " × ".join(str(n) for n in reversed(composite.standard().shape))
    subtitle = (
        f"{record['source']} · {len(record['maps'])} classes · {size} voxels of {composite.spacing[0]:.4g} Å"
    )
    notices = [Notice(n["code"], n["text"]) for n in record["notices"]]
    bad = " ".join(text for code, text in _BAD.items() if any(n.code == code for n in notices))
    level = clear_level(*spread_of(composite.standard()))
    before = [Section("What was found", _summary(record, found)), *_numbers(found)]
    before.append(Section("All classes together", _composite(folder, record, composite, level)))
    after = [Section("Parts that come and go", _components(record, found))]
    after += [Section("Classes", _classes(record)), Section("How it was made", _made(record))]
    room = LARGEST - 200_000 - sum(len(s.body) for s in before + after)
    surfaces = Section("Surfaces of classes", _surfaces(folder, record, composite, level, room))
    title = f"{Path(record['source']).name}: occupancy in {len(record['maps'])} classes"
    return page(title, subtitle, verdict(notices, bad=bad), [*before, surfaces, *after])


def _summary(record: Mapping[str, Any], found: OccupancyTable | None) -> str:
    maps, parts = record["maps"], record["components"]
    counted = [m["particles"] for m in maps]
    of = f" of {sum(counted):,} particles" if counted and None not in counted else ""
    resolution = record["numbers"]["common_resolution_angstrom"]
    said = [f"{len(maps)} classes{of}, compared at {resolution:.1f} Å."]
    if parts:
        said.append(
            f"{len(parts)} {'part comes and goes' if len(parts) == 1 else 'parts come and go'} between them, "
            f"the largest of {parts[0]['volume_angstrom3']:,} Å³."
        )
    elif record["options"].get("components", True):
        said.append("No part differs between the classes by more than noise.")
    else:
        said.append("Parts that come and go were not looked for (--no-components).")
    text = paragraph(" ".join(said))
    names = {part["name"] for part in parts}
    rows = [] if found is None else [i for i in by_difference(found) if found.regions[i] not in names]
    if found is None or not rows:
        return text
    apart = int((np.nanmax(found.low[rows], axis=1) > np.nanmin(found.high[rows], axis=1)).sum())
    text += paragraph(
        f"{apart} of {len(rows)} regions differ between two classes so that their 95 % intervals "
        "don't overlap. The largest differences:"
    )
    return text + table([_extremes(found, i) for i in rows[:5]], ("region", "least", "in", "most", "in"))


def _extremes(found: OccupancyTable, row: int) -> tuple[str, ...]:
    values = found.values[row]
    out = [found.regions[row]]
    for k in (int(np.nanargmin(values)), int(np.nanargmax(values))):
        text = cell_text(float(values[k]), float(found.errors[row, k]))
        out += [text.replace(" ", "\N{NO-BREAK SPACE}"), short_names(found.maps)[k]]
    return tuple(out)


def _numbers(found: OccupancyTable | None) -> list[Section]:
    if found is None:
        return [Section("Occupancy", paragraph("No regions were given, and no parts found to read."))]
    caption = "Occupancy of regions (rows) in classes (columns)."
    order = by_difference(found)
    if len(found.maps) <= _COLUMNS:
        shown = order[:_CELLS_DOWN]
        if len(shown) < len(found.regions):
            caption += f" The {len(shown)} of {len(found.regions)} regions that differ most."
        names = [found.regions[i] for i in shown]
        drawn = heat_map(names, short_names(found.maps), found.values[shown].tolist(), caption)
    else:
        drawn = "".join(figure_png(page, caption) for page in heat_map_figure(found)[:_PAGES])
    sections = [
        Section("Occupancy", drawn + paragraph(_READING)),
        Section("Occupancy with 95 % intervals", _forest(found) + interval_table(found, order)),
    ]
    tree = map_tree(found)
    if tree is not None:
        sections.append(Section("How alike the classes are", figure_png(tree, "Tree of the classes.")))
    return sections


def _forest(found: OccupancyTable) -> str:
    """Return the first page of the forest plot, where a joint fit gave the occupancies."""
    if found.beside is None:
        return ""
    return figure_png(set_forest(found)[0], "The parts that differ most; pale: what is read at their atoms.")


def interval_table(found: OccupancyTable, order: Sequence[int], maps: int = _MAPS) -> str:
    """Return values with 95 % intervals as a table: the first 60 rows of an order, the first maps.

    What is left out is said below it.
    """
    columns = range(min(len(found.maps), maps))
    low, high = found.low, found.high
    further: tuple[str, ...] = ()
    if found.beside is not None:
        further = ("note",) if len(found.maps) > 1 else ("in the map", "note")

    def beside(i: int) -> tuple[str, ...]:
        if found.beside is None:
            return ()
        read = cell_text(float(found.beside.values[i, 0]), float(found.beside.errors[i, 0]))
        return (read, note_text(found, i))[-len(further) :]

    def cell(i: int, k: int) -> str:
        value = float(found.values[i, k])
        if not np.isfinite(found.errors[i, k]):
            return cell_text(value, np.nan)
        return f"{value:.2f} ({low[i, k]:.2f}–{high[i, k]:.2f})"

    rows = [
        (found.regions[i], f"{found.voxels[i]:.0f}", *(cell(i, k) for k in columns), *beside(i))
        for i in order[:_ROWS]
    ]
    header = ("region", "voxels", *(short_names(found.maps)[k] for k in columns), *further)
    text = table(rows, header, sortable=len(rows) > 1)
    left = []
    if len(found.regions) > len(rows):
        left.append(f"{len(rows)} of {len(found.regions)} regions")
    if len(found.maps) > len(columns):
        left.append(f"{len(columns)} of {len(found.maps)} maps")
    return text + (paragraph(f"Shown: {', '.join(left)}; the CSV table has all.") if left else "")


def _surface(
    drawn: Array,
    level: float,
    layers: Mapping[str, tuple[Array, float, float]],
    grid: Volume,
    limits: tuple[int, int],
) -> bytes:
    origin = [float(v) for v in grid.position((0, 0, 0))]
    painted = carried(drawn, {name: layer for name, (layer, *_) in layers.items()}, grid.spacing[::-1])
    layers = {name: (painted[name], low, high) for name, (_, low, high) in layers.items()}
    return surface_message(
        drawn, level, layers, spacing=grid.spacing, origin=origin, dust=512.0, limits=limits
    )


def _composite(folder: Path, record: Mapping[str, Any], composite: Volume, level: float) -> str:
    layers = {
        c.layer: (read_map(folder / record["outputs"][c.layer]).standard(), c.low, c.high) for c in _OF_SET
    }
    message = _surface(composite.standard(), level, layers, composite, LIMITS["report"])
    caption = (
        f"Composite of all classes, each part as strong as in its best class, at level {level:.4g} "
        "(map units). The surfaces of classes below turn with it."
    )
    return surface_block(message, _OF_SET, caption=caption, group=_GROUP)


def _surfaces(folder: Path, record: Mapping[str, Any], composite: Volume, level: float, room: int) -> str:
    """Return surfaces of the classes with most particles, as many as there is room for."""
    chosen = sorted(record["maps"], key=lambda entry: -entry["share"])[:6]
    blocks: list[str] = []
    told = dict(zip(names := [e["name"] for e in record["maps"]], short_names(names), strict=True))
    for entry in chosen:
        relative, occupancy = (
            read_map(folder / entry["outputs"][kind]).standard() for kind in ("relative", "occupancy")
        )
        layers = {"occupancy": (occupancy, 0.0, 1.0)}
        drawn = np.asarray(composite.standard() * relative)
        message = _surface(drawn, level, layers, composite, LIMITS["part"])
        caption = "" if entry["weight"] is None else f"{100 * entry['share']:.1f} % of particles"
        block = surface_block(message, (_OCCUPANCY,), caption=caption, group=_GROUP, small=True)
        block = f"<div><h3>{escaped(told[entry['name']])}</h3>{block}</div>"
        room -= len(block)
        if room < 0:
            break
        blocks.append(block)
    words = "Composite times relative occupancy: one level means the same in all. Coloured by occupancy."
    if len(blocks) < len(record["maps"]):
        words += f" {len(blocks)} of {len(record['maps'])} classes are shown, largest share first."
    return paragraph(words) + f'<div class="grid">{"".join(blocks)}</div>'


def _components(record: Mapping[str, Any], found: OccupancyTable | None) -> str:
    parts = record["components"]
    if not parts:
        looked = record["options"].get("components", True)
        return paragraph("None was found." if looked else "They were not looked for (--no-components).")
    rows = []
    for part in parts:
        about: tuple[str, ...] = ("",) * 5
        if found is not None and part["name"] in found.regions:
            about = _extremes(found, found.regions.index(part["name"]))
        mask = record["outputs"].get(part["name"], "")
        rows.append((part["name"], f"{part['volume_angstrom3']:,}", *about[1:], mask))
    return table(rows, ("part", "volume (Å³)", "least", "in", "most", "in", "mask"))


def _classes(record: Mapping[str, Any]) -> str:
    rows = [
        (
            entry["name"],
            "–" if entry["particles"] is None else f"{entry['particles']:,}",
            "–" if entry["weight"] is None else f"{100 * entry['share']:.1f} %",
            f"{entry['resolution_angstrom']:.1f} Å",
            entry["path"],
        )
        for entry in record["maps"]
    ]
    note = (
        "Resolved to: where the signal-to-noise ratio falls to 0.3, since more than noise is left there. "
        "(What RELION calls a class's resolution is where it falls to 1.)"
    )
    return table(rows, ("class", "particles", "share", "resolved to", "map")) + paragraph(note)


def _made(record: Mapping[str, Any]) -> str:
    numbers = record["numbers"]
    rows = [
        ("Command", shlex.join(record["command"]) or "from Python"),
        ("Source", f"{record['source']} ({record['kind']})"),
        *([("Iteration", record["iteration"])] if record["iteration"] is not None else []),
        *(("Model", f"{m['path']}, SHA-256 {m['sha256']}") for m in record["inputs"].get("model", [])),
        ("Made", record["created"]),
    ]
    held = dict(record["options"]) | {"lowpass": numbers["common_resolution_angstrom"]}
    return table(rows) + settings_table(record["options"], held)
