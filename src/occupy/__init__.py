"""OccuPy: local scale of cryo-EM maps as a measure of occupancy.

The public names are loaded when first used, so that ``import occupy`` costs nothing::

    import occupy
    result = occupy.estimate("map.mrc", occupy.Settings(amplify=3))
    result.scale, result.confidence, result.lowest_confident_scale
    occupy.write_map("equalised.mrc", result.amplify(10))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from occupy._version import __version__

if TYPE_CHECKING:
    from occupy.classes import ClassesResult, estimate_classes
    from occupy.ensemble.components import find_components
    from occupy.ensemble.members import Member
    from occupy.ensemble.pipeline import estimate_set
    from occupy.errors import DownloadError, InputError, Notice, OccupyError, OutputError
    from occupy.inputs import InputFiles, Inputs, open_inputs
    from occupy.io.models import read_model
    from occupy.io.mrc import read_map, write_map
    from occupy.masks import solvent_definition, subtraction_mask
    from occupy.model import AtomicModel
    from occupy.modify import amplify, attenuate, exclude_solvent, sigmoid
    from occupy.pipeline import Estimate
    from occupy.regions.joint import fit_model
    from occupy.regions.region import Region, regions_of_masks, regions_of_model
    from occupy.regions.table import OccupancyTable, read_regions
    from occupy.result import LoadedResult, MapResult, Result, estimate, load
    from occupy.settings import Settings
    from occupy.simulation import simulate, simulate_classes
    from occupy.volume import Frame, LazyMap, Volume

__all__ = [
    "AtomicModel", "ClassesResult", "DownloadError", "Estimate", "Frame", "InputError", "InputFiles",
    "Inputs", "LazyMap", "LoadedResult", "MapResult", "Member", "Notice", "OccupancyTable", "OccupyError",
    "OutputError", "Region", "Result", "Settings", "Volume", "__version__", "amplify", "attenuate",
    "estimate", "estimate_classes", "estimate_set", "exclude_solvent", "find_components", "fit_model",
    "load", "open_inputs", "read_map", "read_model", "read_regions", "regions_of_masks",
    "regions_of_model", "sigmoid", "simulate", "simulate_classes", "solvent_definition",
    "subtraction_mask", "write_map",
]  # fmt: skip

_ROOMS = {
    "classes": ("ClassesResult", "estimate_classes"),
    "ensemble.components": ("find_components",),
    "ensemble.pipeline": ("Member", "estimate_set"),
    "errors": ("DownloadError", "InputError", "Notice", "OccupyError", "OutputError"),
    "inputs": ("InputFiles", "Inputs", "open_inputs"),
    "io.models": ("read_model",),
    "io.mrc": ("read_map", "write_map"),
    "masks": ("solvent_definition", "subtraction_mask"),
    "model": ("AtomicModel",),
    "modify": ("amplify", "attenuate", "exclude_solvent", "sigmoid"),
    "pipeline": ("Estimate",),
    "regions.joint": ("fit_model",),
    "regions.region": ("Region", "regions_of_masks", "regions_of_model"),
    "regions.table": ("OccupancyTable", "read_regions"),
    "result": ("LoadedResult", "MapResult", "Result", "estimate", "load"),
    "settings": ("Settings",),
    "simulation": ("simulate", "simulate_classes"),
    "volume": ("Frame", "LazyMap", "Volume"),
}
"""Module → public names in it."""

_ROOM = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    room = _ROOM.get(name)
    if room is None:
        raise AttributeError(f"module 'occupy' has no attribute {name!r}")
    value = getattr(import_module(f"occupy.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
