"""The colours of the page, by the names that layers give."""

from __future__ import annotations

from occupy.report.palette import CONFIDENCE, DIFFERENCE, SCALE, UNCERTAINTY


def palettes() -> dict[str, list[str]]:
    """Return name → colours at equal steps, from the lowest value to the highest."""
    return {
        "grey": ["#000000", "#ffffff"],
        "scale": list(SCALE),
        "confidence": list(CONFIDENCE),
        "uncertainty": list(UNCERTAINTY),
        "difference": list(DIFFERENCE),
        "mask": ["#10151c", "#e8f0f8"],
    }
