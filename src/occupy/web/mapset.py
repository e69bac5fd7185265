"""A set of maps in the viewer: the folder that `occupy classes` wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.regions.table import OccupancyTable
from occupy.report.surfaces import clear_level, spread_of
from occupy.report.tables import read_table, short_names
from occupy.result import load
from occupy.web.scene import Look, Scene
from occupy.web.shelf import SET_RECORD, ArrayCache, Shelf, WatchedFiles, read_watched

Array = npt.NDArray[np.float32]

_WHOLE = {
    "composite": Look("Composite", "grey", unit="map units"),
    "mean_occupancy": Look("Mean occupancy", "scale"),
    "variability": Look("Variability of occupancy", "uncertainty", 0.0, 0.5),
}
_PER_MAP = {
    "occupancy": Look("Occupancy", "scale"),
    "relative": Look("Relative occupancy", "scale"),
    "uncertainty": Look("Uncertainty of occupancy", "uncertainty", 0.0, 0.5),
}


class SetDocument(Scene):
    """A composite, and occupancies of every map of a set; layers are read when they are asked for.

    Layers are ``composite``, ``mean_occupancy``, ``variability``, ``component:<name>``; ``occupancy:<n>``,
    ``relative:<n>``, ``uncertainty:<n>`` of map n (from 0); ``class:<n>``, the composite times the relative
    occupancy, which is map n on the common grey scale; and ``difference:<n>:<m>`` of two occupancies.
    """

    def __init__(self, number: int, folder: Path, shelf: Shelf, cache: ArrayCache) -> None:
        watched = WatchedFiles()
        watched.watch(folder / SET_RECORD)
        self.folder, self.result = folder, load(folder)
        self.names, self.told = self.result.names, short_names(self.result.names)
        of_set = self.result.files[""]
        self.components = [p for p, file in of_set.items() if file.parent.name == "components"]
        if "composite" not in of_set:
            raise InputError(f"{folder}: the composite of this set is not there")
        self._files = {
            **{name: of_set[name] for name in _WHOLE if name in of_set},
            **{f"component:{name}": of_set[name] for name in self.components},
            **{
                f"{kind}:{n}": self.result.files[name][kind]
                for n, name in enumerate(self.names)
                for kind in _PER_MAP
                if kind in self.result.files[name]
            },
        }
        for file in self._files.values():
            # A link that leads out of the folder being viewed is refused, as everywhere.
            shelf.find(str(file))
        grid = read_watched(self._files["composite"], watched, self.result)
        super().__init__(number, folder.name, grid, watched, cache)
        table = folder / "occupancy.csv"
        self.table = read_table(shelf.find(str(table))) if table.is_file() else None

    @property
    def looks(self) -> dict[str, Look]:
        """Name → look of every layer that can be shown."""
        low, high = self.window
        grey = Look("Composite", "grey", low, high, "map units")
        out = {name: look for name, look in _WHOLE.items() if name in self._files} | {"composite": grey}
        for number, name in enumerate(self.told):
            out[f"class:{number}"] = replace(grey, title=name)
            for kind, look in _PER_MAP.items():
                if f"{kind}:{number}" in self._files:
                    out[f"{kind}:{number}"] = replace(look, title=f"{look.title}, {name}")
        for component in self.components:
            out[f"component:{component}"] = Look(component.replace("_", " "), "mask")
        return _WithDifferences(out, self.told)

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
        if name in self._files:
            volume = read_watched(self._files[name], self.watched, self.result)
            if not volume.same_grid(self.grid):
                raise InputError(f"{self._files[name].name}: not on the grid of the composite")
            return volume.standard()
        if kind == "class" and f"relative:{rest}" in self._files:
            return np.asarray(self.layer("composite") * np.nan_to_num(self.layer(f"relative:{rest}")))
        if kind == "difference":
            first, _, second = rest.partition(":")
            return np.asarray(self.layer(f"occupancy:{first}") - self.layer(f"occupancy:{second}"))
        raise InputError(f"there is no layer {name!r}")

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
            "maps": [
                {"name": entry["name"], "told": told, "weight": entry.get("weight") and entry.get("share")}
                for entry, told in zip(self.result.read["maps"], self.told, strict=True)
            ],
            "regions": [] if self.table is None else list(self.table.regions),
            "cells": [] if self.table is None else _cells(self.table, self.names),
            "components": self.components,
            "notices": self.result.read["notices"],
        }


def _cells(table: OccupancyTable, names: Sequence[str]) -> list[list[dict[str, float] | None]]:
    """Return the numbers of each region in each map of a set; None where there is no occupancy."""
    columns = {name: k for k, name in enumerate(table.maps)}
    of_regions = {"voxels": table.voxels, "independent_voxels": table.independent}
    numbers = {
        "occupancy": table.values,
        "standard_error": table.errors,
        "low_95": table.low,
        "high_95": table.high,
    }

    def cell(row: int, name: str) -> dict[str, float] | None:
        k = columns.get(name)
        if k is None or not np.isfinite(table.values[row, k]):
            return None
        found = {what: float(array[row, k]) for what, array in numbers.items()}
        found |= {what: float(array[row]) for what, array in of_regions.items()}
        return {what: value for what, value in found.items() if np.isfinite(value)}

    return [[cell(row, name) for name in names] for row in range(len(table.regions))]


class _WithDifferences(dict[str, Look]):
    """Looks, with one for the difference of any two maps."""

    def __init__(self, looks: dict[str, Look], names: Sequence[str]) -> None:
        super().__init__(looks)
        self._names = names

    def __missing__(self, name: str) -> Look:
        kind, *numbers = name.split(":")
        if kind != "difference" or len(numbers) != 2:
            raise KeyError(name)
        try:
            first, second = (self._names[int(n)] for n in numbers if n.isdecimal())
        except (IndexError, ValueError):
            raise KeyError(name) from None
        return Look(f"Occupancy, {first} − {second}", "difference", -1.0, 1.0)
