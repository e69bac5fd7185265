"""Two occupancies of the same parts, from images and from the map's grey values, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from occupy.errors import Notice
from occupy.particles.pipeline import ParticleOccupancy

_SURELY = 3.0
"""Standard errors of the difference from which on it is warned about."""


@dataclass(frozen=True)
class OfMap:
    """What a map says about one part.

    Attributes
    ----------
    occupancy, error : float
        With standard error.
    relative_b : float
        Å² above the median part.
    unlike : bool
        It is there but does not look like its density.
    """

    occupancy: float
    error: float
    relative_b: float = 0.0
    unlike: bool = False


@dataclass(frozen=True)
class ImagesAndMap:
    """Both occupancies of a part.

    Attributes
    ----------
    name : str
        The part.
    images, images_error : float
        From the images, with standard error.
    map, map_error : float
        From the map.
    difference : float
        Images less map, in its standard errors.
    reason : str
        Why they may differ; empty where they agree.
    """

    name: str
    images: float
    images_error: float
    map: float
    map_error: float
    difference: float
    reason: str


def compare_with_map(found: ParticleOccupancy, of_map: Mapping[str, OfMap]) -> tuple[ImagesAndMap, ...]:
    """Compare both occupancies of every part that images and map know.

    Parameters
    ----------
    found : ParticleOccupancy
        From the images.
    of_map : mapping of str to OfMap
        From the map, by the parts' names.
    """
    rows = []
    for i, name in enumerate(found.names):
        other = of_map.get(name)
        if other is None:
            continue
        occupancy, error = float(found.occupancy[i]), float(found.standard_error[i])
        away = occupancy - other.occupancy
        difference = away / max(float(np.hypot(error, other.error)), 1e-6)
        reason = ""
        # Less than 0.05 is not warned about, however small its error.
        if abs(difference) > _SURELY and abs(away) > 0.05:
            reason = _reason(away, float(found.states.levels[i] / found.levels.full), other, found)
        rows.append(ImagesAndMap(name, occupancy, error, other.occupancy, other.error, difference, reason))
    return tuple(rows)


def _reason(away: float, level: float, other: OfMap, found: ParticleOccupancy) -> str:
    """Say why images and map may differ, the likeliest first."""
    lower, reasons = "map" if away > 0 else "images", []
    if other.unlike:
        reasons.append("its density in the map is unlike the model's: misplaced, or another model?")
    if other.relative_b > 20:
        reasons.append(f"flexible (relative B {other.relative_b:+.0f} Å²)?")
    # Relative to full: below it a part's density does not look like the model's.
    if level < 0.9:
        reasons.append(f"weaker in images than the model's density (level {level:.2f}): it moves?")
    if any(notice.code == "poses" for notice in found.notices):
        reasons.append("poses are far off, which images notice before the map does?")
    if not reasons:
        reasons.append("is the map of these particles, not masked and not sharpened?")
    return f"{lower} lower: " + " ".join(reasons)


def disagreements(rows: tuple[ImagesAndMap, ...]) -> tuple[Notice, ...]:
    """One warning that names the parts where images and map differ."""
    names = [row.name for row in rows if row.reason]
    if not names:
        return ()
    text = f"images and map do not agree on {', '.join(names)}: see the table of both"
    return (Notice("images-against-map", text),)
