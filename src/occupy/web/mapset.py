"""A set of maps in the viewer: the folder that `occupy classes` wrote."""

from __future__ import annotations

import csv
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.mrc import map_stem
from occupy.report.surfaces import clear_level, spread_of
from occupy.volume import Volume
from occupy.web.cache import ArrayCache
from occupy.web.scene import Look, Scene
from occupy.web.shelf import SET_RECORD, Shelf
from occupy.web.watched import WatchedFiles

Array = npt.NDArray[np.float32]

WHOLE = {
    "composite": Look("Composite", "grey", unit="map units"),
    "mean_occupancy": Look("Mean occupancy", "scale"),
    "variability": Look("Variability of occupancy", "uncertainty", 0.0, 0.5),
}
PER_MAP = {
    "occupancy": Look("Occupancy", "scale"),
    "relative": Look("Relative occupancy", "scale"),
    "uncertainty": Look("Uncertainty of occupancy", "uncertainty", 0.0, 0.5),
}
_COLUMNS = ("region", "map", "occupancy")


class SetDocument(Scene):
    """A composite, and occupancies of every map of a set; layers are read when they are asked for.

    Layers are ``composite``, ``mean_occupancy``, ``variability``, ``component:<name>``; ``occupancy:<n>``,
    ``relative:<n>``, ``uncertainty:<n>`` of map n (from 0); ``class:<n>``, the composite times the relative
    occupancy, which is map n on the common grey scale; and ``difference:<n>:<m>`` of two occupancies.
    """

    def __init__(self, number: int, folder: Path, shelf: Shelf, cache: ArrayCache) -> None:
        self.folder, self.shelf = folder, shelf
        watched = WatchedFiles()
        watched.watch(folder / SET_RECORD)
        self.record = _read_record(folder / SET_RECORD)
        self.maps = _maps_of(self.record, folder)
        grid, _ = watched.read(self._file("composite.mrc"))
        super().__init__(number, folder.name, grid, watched, cache)
        self.components = [p.stem for p in sorted((folder / "components").glob("*.mrc"))]
        self.regions, self.cells = _table(folder / "occupancy.csv", [m["name"] for m in self.maps])

    def _file(self, name: str) -> Path:
        return self.shelf.find(str(self.folder / name))

    @property
    def looks(self) -> dict[str, Look]:
        """Name → look of every layer that can be shown."""
        out = {
            n: look for n, look in WHOLE.items() if n == "composite" or (self.folder / f"{n}.mrc").is_file()
        }
        low, high = self.window
        out["composite"] = Look("Composite", "grey", low, high, "map units")
        for number, about in enumerate(self.maps):
            name = about["name"]
            out[f"class:{number}"] = Look(name, "grey", low, high, "map units")
            for kind, look in PER_MAP.items():
                if about.get(kind):
                    out[f"{kind}:{number}"] = Look(f"{look.title}, {name}", look.palette, look.low, look.high)
        for component in self.components:
            out[f"component:{component}"] = Look(component.replace("_", " "), "mask")
        return _WithDifferences(out, self.maps)

    @property
    def memory(self) -> int:
        """Bytes of the composite; everything else is in the cache."""
        return self.grid.data.nbytes

    def layer(self, name: str) -> Array:
        """Return a layer in (z, y, x) order."""
        with self.lock:
            return self.cache.get((self.id, name), lambda: self._load(name))

    def _load(self, name: str) -> Array:
        if name == "composite":
            return self.grid.standard()
        kind, _, rest = name.partition(":")
        if name in WHOLE:
            return self._read(f"{name}.mrc").standard()
        if kind == "component" and rest in self.components:
            return self._read(f"components/{rest}.mrc").standard()
        if kind in PER_MAP:
            about = self._map(rest)
            if about.get(kind):
                return self._read(str(about[kind])).standard()
        if kind == "class":
            self._map(rest)
            return np.asarray(self.layer("composite") * np.nan_to_num(self.layer(f"relative:{rest}")))
        if kind == "difference":
            first, _, second = rest.partition(":")
            return np.asarray(self.layer(f"occupancy:{first}") - self.layer(f"occupancy:{second}"))
        raise InputError(f"there is no layer {name!r}")

    def _map(self, number: str) -> dict[str, Any]:
        if not number.isdecimal() or int(number) >= len(self.maps):
            raise InputError(f"there is no map {number!r}; the set has {len(self.maps)}")
        return self.maps[int(number)]

    def _read(self, name: str) -> Volume:
        volume, _ = self.watched.read(self._file(name))
        if not volume.same_grid(self.grid):
            raise InputError(f"{name}: not on the grid of the composite")
        return volume

    @cached_property
    def _spread(self) -> tuple[float, float, float]:
        """Median, robust deviation, and a high value of the composite."""
        return spread_of(self.grid.data)

    @property
    def window(self) -> tuple[float, float]:
        """Values of black and white of the composite."""
        middle, spread, high = self._spread
        low = middle - 3 * spread
        return (low, high) if high > low else (low, low + 1.0)

    @property
    def level(self) -> float:
        """Contour level to begin with."""
        return clear_level(*self._spread)

    def about(self) -> dict[str, Any]:
        """Return maps, regions and the table of occupancies."""
        _, _, high = self._spread
        return {
            "kind": "set",
            "path": str(self.folder),
            "folder": str(self.folder),
            "level": self.level,
            "range": [0.0, high],
            "sigma": float(self.grid.data.std(dtype=np.float64)),
            "dust": 512.0,
            "maps": [{"name": m["name"], "weight": m.get("weight")} for m in self.maps],
            "regions": self.regions,
            "cells": self.cells,
            "components": self.components,
            "notices": self.record.get("notices", []),
        }


class _WithDifferences(dict[str, Look]):
    """Looks, with one for the difference of any two maps."""

    def __init__(self, looks: dict[str, Look], maps: list[dict[str, Any]]) -> None:
        super().__init__(looks)
        self._maps = maps

    def __missing__(self, name: str) -> Look:
        kind, *numbers = name.split(":")
        if kind != "difference" or len(numbers) != 2:
            raise KeyError(name)
        try:
            first, second = (self._maps[int(n)]["name"] for n in numbers if n.isdecimal())
        except (IndexError, ValueError):
            raise KeyError(name) from None
        return Look(f"Occupancy, {first} − {second}", "difference", -1.0, 1.0)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable record of a set ({error})") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: not a record of a set")
    return record


def _maps_of(record: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return the maps of a set with the files of their layers: as the record says, or by their stems."""
    listed = record.get("maps")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{folder / SET_RECORD}: the record names no maps")
    out = []
    for entry in listed:
        if not isinstance(entry, dict) or not (entry.get("name") or entry.get("path")):
            raise InputError(f"{folder / SET_RECORD}: a map without a name")
        name = str(entry.get("name") or map_stem(entry["path"]))
        about: dict[str, Any] = {"name": name, "weight": entry.get("share", entry.get("weight"))}
        outputs = entry.get("outputs")
        for kind in PER_MAP:
            file = outputs.get(kind) if isinstance(outputs, dict) else f"{map_stem(name)}_{kind}.mrc"
            if isinstance(file, str) and (folder / file).is_file():
                about[kind] = file
        out.append(about)
    return out


def _table(path: Path, names: list[str]) -> tuple[list[str], list[list[dict[str, float] | None]]]:
    """Return the regions, and per region and map the numbers of its cell (None where there is none)."""
    if not path.is_file():
        return [], []
    with path.open(newline="", encoding="utf-8") as stream:
        lines = csv.DictReader(line for line in stream if not line.startswith("#"))
        if not set(_COLUMNS) <= set(lines.fieldnames or ()):
            raise InputError(f"{path}: the first line must name {', '.join(_COLUMNS)}")
        rows = list(lines)
    regions = list(dict.fromkeys(row["region"] for row in rows))
    place = {name: i for i, name in enumerate(names)}
    cells: list[list[dict[str, float] | None]] = [[None] * len(names) for _ in regions]
    row_of = {region: i for i, region in enumerate(regions)}
    for row in rows:
        column = place.get(row["map"])
        if column is not None:
            cells[row_of[row["region"]]][column] = _numbers(row)
    return regions, cells


def _numbers(row: dict[str, str]) -> dict[str, float] | None:
    out = {}
    for name in ("occupancy", "standard_error", "low_95", "high_95", "voxels", "independent_voxels"):
        try:
            value = float(row.get(name) or "nan")
        except ValueError:
            continue
        if np.isfinite(value):
            out[name] = value
    return out if "occupancy" in out else None
