"""Occupancies of regions in maps as a picture of numbers, for reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from occupy.report.html import escaped
from occupy.report.palette import ink_on, scale_colour

_SIDE, _LINE = 44, 26


def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], caption: str = ""
) -> str:
    """Return occupancies of regions (rows) in maps (columns) as SVG, with the values written in.

    Parameters
    ----------
    rows, columns : sequence of str
        Names.
    values : sequence of sequence of float or None
        One sequence per row; missing values (None, not a number) stay white.
    caption : str
        What it shows.
    """
    left = 16 + 7 * max(map(len, rows), default=0)
    top = 16 + 6 * max(map(len, columns), default=0)
    # The last column's name leans out to the right.
    width, height = left + _SIDE * len(columns) + top // 2, top + _LINE * len(rows) + 4
    parts = [
        f'<svg class="heat" role="img" aria-label="{escaped(caption)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="system-ui, sans-serif" font-size="11">'
    ]
    for j, name in enumerate(columns):
        x = left + _SIDE * j + _SIDE / 2 + 4
        parts.append(f'<text transform="translate({x},{top - 6}) rotate(-60)">{escaped(name)}</text>')
    for i, name in enumerate(rows):
        y = top + _LINE * i
        parts.append(f'<text x="{left - 6}" y="{y + 17}" text-anchor="end">{escaped(name)}</text>')
        parts += [_cell(value, left + _SIDE * j, y) for j, value in enumerate(values[i])]
    return "<figure>" + "".join(parts) + f"</svg><figcaption>{escaped(caption)}</figcaption></figure>"


def _cell(value: float | None, x: int, y: int) -> str:
    box = f'<rect x="{x}" y="{y}" width="{_SIDE - 2}" height="{_LINE - 2}" rx="3" stroke="#d5dae1" fill='
    if value is None or not np.isfinite(value):
        return f'{box}"#ffffff"/>'
    colour = scale_colour(value)
    place = f'x="{x + _SIDE / 2 - 1}" y="{y + 16}" text-anchor="middle"'
    return f'{box}"{colour}"/><text {place} fill="{ink_on(colour)}">{value:.2f}</text>'
