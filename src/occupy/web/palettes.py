"""The colours of the page: those of the figures, and sequences that colour-blind people can read."""

from __future__ import annotations

from occupy.report.palette import SCALE_PALETTE

# Even steps of matplotlib's cividis (Nuñez et al. 2018), made for people with and without colour deficiency.
_CIVIDIS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55",
            "#fee838")  # fmt: skip
# Blue, white, orange: ends differ in hue that every kind of colour deficiency keeps apart.
_DIFFERENCE = ("#1b4f9c", "#5a8fc7", "#abcbe3", "#f4f4f4", "#f3c08a", "#dd7f2f", "#9a4a06")
_UNCERTAINTY = ("#f1eef6", "#d7b5d8", "#df65b0", "#c2187a", "#67001f")


def palettes() -> dict[str, list[str]]:
    """Return name → colours at equal steps, from the lowest value to the highest."""
    return {
        "grey": ["#000000", "#ffffff"],
        "scale": [colour for _, colour in SCALE_PALETTE],
        "confidence": list(_CIVIDIS),
        "uncertainty": list(_UNCERTAINTY),
        "difference": list(_DIFFERENCE),
        "mask": ["#10151c", "#e8f0f8"],
    }
