"""The colours of everything that is shown: figures, reports, the viewer, ChimeraX scripts.

One convention: what is present is a light neutral, which shows the shading of a surface on light pages and on
dark ones, and what is missing is coloured. All scales and occupancies are drawn from 0 to 1. A difference is
always the second minus the first: the colours of what is missing where the second has less, blue where it has
more, the neutral of what is present where both agree.
"""

from __future__ import annotations

# Fraction of the range → colour. Lightness rises evenly from 32 to 89 (CIE L*), from crimson over orange to a
# warm white; each step is 10 or more (CIE L*a*b*) in every kind of sight.
# Fractions are equally spaced: ChimeraX spaces the labels of a colour key equally.
SCALE_PALETTE: tuple[tuple[float, str], ...] = (
    (0.0, "#8f1459"),
    (0.125, "#ac2459"),
    (0.25, "#c73856"),
    (0.375, "#d25a51"),
    (0.5, "#d57b4e"),
    (0.625, "#dd9749"),
    (0.75, "#dfb179"),
    (0.875, "#e2c9a7"),
    (1.0, "#e6e0d7"),
)
SCALE = tuple(colour for _, colour in SCALE_PALETTE)

# Lightness 40, 57, 74 on both sides of the neutral, at equal steps.
DIFFERENCE = ("#b02a41", "#d16d4a", "#e0ab87", "#e3dfd8", "#92bbdc", "#478ec6", "#0062aa")

# Even steps of matplotlib's cividis (Nuñez et al. 2018), made for people with and without colour deficiency.
CONFIDENCE = (
    "#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55",
    "#fee838",
)  # fmt: skip
# From ColorBrewer's purple-red (Brewer 2003): certain is light.
UNCERTAINTY = ("#f1eef6", "#d7b5d8", "#df65b0", "#c2187a", "#67001f")

# Where colours of scale begin unless the user says otherwise.
MINIMUM_SCALE = 0.0
# Where nothing is shown of the scale: below the lowest confident one.
SOLVENT = "#8d96a0"
# Severities, as in reports and the viewer: numbers must not be used as they are; read this first.
ALARM, WARNING = "#c4001a", "#7a4b00"


def ink_on(colour: str) -> str:
    """Return the ink, dark or white, that is read on a colour (#rrggbb)."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#16202b" if 0.3 * red + 0.59 * green + 0.11 * blue > 118 else "#ffffff"


def scale_colour(value: float) -> str:
    """Return the colour of an occupancy from 0 to 1, as #rrggbb."""
    at = min(max(value, 0.0), 1.0) * (len(SCALE_PALETTE) - 1)
    low = min(int(at), len(SCALE_PALETTE) - 2)
    first, second = ([int(SCALE_PALETTE[i][1][k : k + 2], 16) for k in (1, 3, 5)] for i in (low, low + 1))
    mixed = [round(a + (b - a) * (at - low)) for a, b in zip(first, second, strict=True)]
    return "#" + "".join(f"{c:02x}" for c in mixed)
