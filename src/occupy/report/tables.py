"""Occupancies of regions as tables: CSV for programs, TSV for people."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from occupy._version import __version__
from occupy.errors import InputError
from occupy.io.atomic import write_text
from occupy.io.tables import csv_text as rows_as_csv
from occupy.io.tables import number_in, read_rows
from occupy.regions.table import Beside, Numbers, OccupancyTable
from occupy.statistics.posterior import STANDARD_ERRORS_95

COLUMNS = (
    "region",
    "map",
    "occupancy",
    "standard_error",
    "low_95",
    "high_95",
    "voxels",
    "independent_voxels",
    "interval_95_in_standard_errors",
)
_JOINT_COLUMNS = ("local_scale", "local_scale_error", "note")
"""Further columns where the occupancies are of a joint fit: what the map reads in the region."""
_WHAT = {
    "occupancy": "occupancy",
    "relative": "occupancy relative to the best map at each place",
    "scale": "local scale",
}
_READ, _FITTED = "of regions: median over the region's voxels", "of parts by a joint fit to the map"


def _text(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def _csv_text(table: OccupancyTable) -> str:
    """Return a table in long form, one line per region and map; unknown numbers are empty."""
    beside, low, high = table.beside, table.low, table.high
    rows = []
    for row, region in enumerate(table.regions):
        of_region = _text(table.voxels[row], 0), _text(table.independent[row], 1), f"{table.reach_95:.7g}"
        for k, name in enumerate(table.maps):
            numbers = (array[row, k] for array in (table.values, table.errors, low, high))
            cells = [region, name, *map(_text, numbers), *of_region]
            if beside is not None:
                cells += [
                    _text(beside.values[row, k]), _text(beside.errors[row, k]), beside.notes[row][k],
                ]  # fmt: skip
            rows.append(cells)
    return rows_as_csv(COLUMNS + (() if beside is None else _JOINT_COLUMNS), rows)


def short_names(names: Sequence[str]) -> list[str]:
    """Return names of maps for people: class 1 for run_it025_class001, where that tells all apart."""
    short = [re.sub(r"^.*_class0*(\d+)$", r"class \1", name) for name in names]
    return short if len(set(short)) == len(short) else list(names)


def cell_text(value: float, error: float) -> str:
    """Return a value for people: ``0.62 ± 0.05``, ``0.62``, or ``–`` where there is none."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.2f} ± {error:.2f}" if math.isfinite(error) else f"{value:.2f}"


def _tsv_text(table: OccupancyTable, notes: Iterable[str] = ()) -> str:
    """Return a table in wide form for people: a line per region, a column per map.

    Lines with ``#`` come first: what the values are, notes, and (where known) each map's share of all
    particles.
    """
    errors = np.isfinite(table.errors).any()
    beside = table.beside
    said = f"# {_WHAT.get(table.kind, table.kind)} {_READ if beside is None else _FITTED}"
    head = [said + (" ± standard error" if errors else "") + f"; occupy {__version__}"]
    head += [f"# {line}" for note in notes for line in note.splitlines()]
    if np.isfinite(table.weights).any():
        shares = (_text(100 * weight, 1) for weight in table.weights)
        head.append("\t".join(["# share of particles, %", "", *shares]))
    # Of one map there is room for what it reads too.
    further = () if beside is None else ("in the map", "note")[len(table.maps) > 1 :]
    rows = ["\t".join(["region", "voxels", *map(_plain, table.maps), *further])]
    for row, region in enumerate(table.regions):
        cells = map(cell_text, table.values[row].tolist(), table.errors[row].tolist())
        more: tuple[str, ...] = ()
        if beside is not None:
            read = cell_text(float(beside.values[row, 0]), float(beside.errors[row, 0]))
            more = (read, note_text(table, row))[-len(further) :]
        rows.append("\t".join([_plain(region), _text(table.voxels[row], 0), *cells, *more]))
    return "\n".join([*head, *rows]) + "\n"


def note_text(table: OccupancyTable, row: int) -> str:
    """Return what is noted of a region, with the maps it is noted of; empty where there is nothing."""
    if table.beside is None:
        return ""
    notes = table.beside.notes[row]
    of: dict[str, list[str]] = {}
    for name, note in zip(table.maps, notes, strict=True):
        of.setdefault(note, []).append(name)
    if len(of) == 1:
        return notes[0]
    return "; ".join(
        f"{note} ({', '.join(names[:3])}{' …' * (len(names) > 3)})" for note, names in of.items() if note
    )


def _plain(name: str) -> str:
    return " ".join(name.split())


def write_tables(
    folder: Path, table: OccupancyTable, stem: str = "occupancy", notes: Iterable[str] = ()
) -> Mapping[str, str]:
    """Write ``<stem>.csv`` and ``<stem>.tsv``; return product → file name."""
    write_text(folder / f"{stem}.csv", _csv_text(table))
    write_text(folder / f"{stem}.tsv", _tsv_text(table, notes))
    return {"csv": f"{stem}.csv", "tsv": f"{stem}.tsv"}


def read_table(path: str | Path) -> OccupancyTable:
    """Read a table that `write_tables` wrote as CSV.

    Class weights and what kind of values they are do not stand in the CSV: weights are NaN, kind is
    ``occupancy``.

    Parameters
    ----------
    path : path-like
        ``occupancy.csv``.

    Raises
    ------
    InputError
        Where the file cannot be read, columns are missing, a number is none, or a pair of region and map is
        missing or comes twice; with the line.
    """
    source = Path(path)
    read = read_rows(source, _wrong_with)
    further = _JOINT_COLUMNS if set(_JOINT_COLUMNS) <= set(read.header) else ()
    found: dict[tuple[str, str], dict[str, float]] = {}
    notes: dict[tuple[str, str], str] = {}
    reaches = set()
    for line, row in read.rows:
        key = row["region"] or "", row["map"] or ""
        where = f"{source}: line {line}"
        if not all(key):
            raise InputError(f"{where}: no name of region or map")
        if key in found:
            raise InputError(f"{where}: {key[0]} in {key[1]} comes twice")
        names = (*COLUMNS[2:-1], *further[:-1])
        found[key] = {name: number_in(row[name], f"{where}: {name}") for name in names}
        notes[key] = row.get("note") or ""
        reaches.add(number_in(row.get(COLUMNS[-1], ""), f"{where}: {COLUMNS[-1]}"))
    known = [reach for reach in reaches if math.isfinite(reach)]
    if len(known) > 1:
        raise InputError(f"{source}: intervals of several widths ({', '.join(map(str, sorted(known)))})")
    table = _assembled(found, source, known[0] if known else None)
    if not further:
        return table
    low, high, local, spread = (
        np.array([[found[region, name][column] for name in table.maps] for region in table.regions])
        for column in ("low_95", "high_95", *further[:-1])
    )
    said = tuple(tuple(notes[region, name] for name in table.maps) for region in table.regions)
    return replace(table, beside=Beside(local, spread, low, high, said))


def _wrong_with(header: tuple[str, ...]) -> str | None:
    missing = [name for name in COLUMNS[:-1] if name not in header]
    return f"not a table of occupancies: no column {', '.join(missing)}" if missing else None


def _assembled(
    found: Mapping[tuple[str, str], Mapping[str, float]], source: Path, reach: float | None
) -> OccupancyTable:
    regions = tuple(dict.fromkeys(region for region, _ in found))
    maps = tuple(dict.fromkeys(name for _, name in found))
    if not found:
        raise InputError(f"{source}: a table without lines")
    if len(found) < len(regions) * len(maps):
        region, name = next((r, m) for r in regions for m in maps if (r, m) not in found)
        raise InputError(f"{source}: {region} in {name} is missing")

    def grid(column: str) -> list[list[float]]:
        return [[found[region, name][column] for name in maps] for region in regions]

    def per_region(column: str) -> list[float]:
        return [found[region, maps[0]][column] for region in regions]

    values, errors = np.array(grid("occupancy")), np.array(grid("standard_error"))
    if reach is None:
        reach = _reach_of(values, errors, np.array(grid("low_95")), np.array(grid("high_95")))
    return OccupancyTable(
        regions,
        maps,
        values,
        errors,
        np.array(per_region("voxels")),
        np.array(per_region("independent_voxels")),
        np.full(len(maps), np.nan),
        reach_95=reach,
    )


def _reach_of(values: Numbers, errors: Numbers, low: Numbers, high: Numbers) -> float:
    """Return how many standard errors the intervals of a table of 0.1 reach, which did not say so."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.concatenate([(values - low) / errors, (high - values) / errors]).ravel()
    # Numbers of four digits: small errors are too rough to tell.
    reach = reach[np.isfinite(reach) & (np.concatenate([errors, errors]).ravel() > 0.005)]
    largest = float(reach.max()) if reach.size else STANDARD_ERRORS_95
    return largest if largest > 1.05 * STANDARD_ERRORS_95 else STANDARD_ERRORS_95
