"""The colours of local scale, the same in figures, in ChimeraX and wherever else scale is shown."""

from __future__ import annotations

# Fraction of the range → colour: warm where something is missing, cool where all is present. After the
# diverging red-yellow-blue scheme of ColorBrewer (Brewer 2003), which people with any of the three colour
# deficiencies can read, with a darker middle, so that half-present parts don't vanish on white.
# Fractions are equally spaced: ChimeraX spaces the labels of a colour key equally.
SCALE_PALETTE: tuple[tuple[float, str], ...] = (
    (0.0, "#a50026"),
    (0.125, "#d7352b"),
    (0.25, "#f46d43"),
    (0.375, "#fdae61"),
    (0.5, "#f7dc83"),
    (0.625, "#b5dcea"),
    (0.75, "#7fb6d8"),
    (0.875, "#4b7fba"),
    (1.0, "#313695"),
)
# Scale below this is mostly noise and leakage; colours begin here unless the user says otherwise.
MINIMUM_SCALE = 0.2
ALARM = "#c4001a"
