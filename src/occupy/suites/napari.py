"""napari opens OccuPy's results: the map, its scale from 0 to 1 in our colours, uncertainty, and the parts.

napari finds `reader` by the manifest beside this file. A result is its folder, or the record in it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from occupy.errors import OccupyError
from occupy.io.models import read_model
from occupy.io.mrc import read_map
from occupy.report.palette import SCALE, UNCERTAINTY
from occupy.result import LoadedResult, load
from occupy.volume import LazyMap, Volume

Layer = tuple[Any, dict[str, Any], str]
"""What napari takes: data, keywords of the layer, kind of layer."""

_SHOWN = {"scale": (0.0, 1.0, SCALE), "occupancy": (0.0, 1.0, SCALE), "uncertainty": (0.0, 0.3, UNCERTAINTY)}


def reader(path: str | list[str]) -> Callable[[str | list[str]], list[Layer]] | None:
    """Return `_read_layers` where the path is a result of OccuPy, else None, so that napari asks others.

    Parameters
    ----------
    path : str or list of str
        What was dropped or opened: a result folder, or a record (``*_occupy.json``, ``occupy_set.json``).
    """
    place = Path(path if isinstance(path, str) else path[0])
    record = place.name == "occupy_set.json" or place.name.endswith("_occupy.json")
    if not record and (
        not place.is_dir()
        or (not any(place.glob("*_occupy.json")) and not (place / "occupy_set.json").is_file())
    ):
        return None
    return _read_layers


def _read_layers(path: str | list[str]) -> list[Layer]:
    """Read the layers of a result: images in Å, and a point with name and occupancy for each part.

    Raises
    ------
    OccupyError
        Where a file is missing or was changed since the record was written.
    """
    place = Path(path if isinstance(path, str) else path[0])
    result = load(place)
    layers = [layer for layer in (_input(result), *_maps(result)) if layer]
    return layers + _parts(result)


def _input(result: LoadedResult) -> Layer | None:
    """Return the map itself, where it is still where the record says."""
    listed = result.read.get("inputs", {}).get("map")
    path = Path(listed["path"]) if listed else None
    if path is None or not path.is_file():
        return None
    try:
        volume = read_map(path)
    except OccupyError:
        return None
    # Contrast that shows content: the brightest per mille would make everything else dark.
    high = float(np.quantile(volume.data, 0.999))
    return volume.standard(), _grid(volume) | {"name": path.name, "contrast_limits": (0.0, high)}, "image"


def _maps(result: LoadedResult) -> list[Layer]:
    """Return scale or occupancy of every map, with its uncertainty; only the first is visible at first."""
    found = [
        _coloured(name, product, lazy)
        for name in result.names
        for product, lazy in result.maps[name].items()
        if product in _SHOWN
    ]
    for i, (_, keywords, _) in enumerate(found):
        keywords["visible"] = i == 0
    return found


def _coloured(name: str, product: str, lazy: LazyMap) -> Layer:
    from napari.utils import Colormap

    low, high, colours = _SHOWN[product]
    rgb = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours]
    # What reads nothing is not drawn, so that the map can be seen through.
    keywords: dict[str, Any] = {
        "name": f"{name} {product}",
        "contrast_limits": (low, high),
        "blending": "translucent",
    }
    colours_and_opacity = [[*colour, float(i > 0)] for i, colour in enumerate(rgb)]
    keywords["colormap"] = Colormap(colours_and_opacity, name=f"occupy {product}")
    volume = lazy.volume()
    return volume.standard(), _grid(volume) | keywords, "image"


def _grid(volume: Volume) -> dict[str, Any]:
    """Return where a map lies: spacing and first voxel in Å, z first, as napari counts."""
    start = tuple(volume.position((0, 0, 0))[::-1])
    return {"scale": volume.spacing[::-1], "translate": start, "units": ("Å", "Å", "Å")}


def _parts(result: LoadedResult) -> list[Layer]:
    """Return a point at the middle of every chain whose occupancy was read, labelled with it."""
    model = next(iter(sorted(result.path.parent.glob("*_model_occupancies.cif"))), None)
    table = next(iter(sorted(result.path.parent.glob("*_regions.tsv"))), None)
    if model is None or table is None:
        return []
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))
    atoms = read_model([model])
    chains = np.array([residue.chain for residue in atoms.residues])[atoms.residue]
    shown = [row for row in rows if (chains == row["region"]).any()]
    if not shown:
        return []
    middles = np.array([atoms.xyz[chains == row["region"]].mean(axis=0)[::-1] for row in shown])
    features = {column: [row[column] for row in shown] for column in shown[0]}
    keywords = {
        "name": "parts",
        "features": features,
        "text": {"string": "{region} {" + result.names[0] + "}", "size": 10},
        "size": 6,
        "units": ("Å", "Å", "Å"),
    }
    return [(middles, keywords, "points")]
