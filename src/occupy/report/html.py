"""Self-contained reports: one HTML file that opens anywhere, without network, and prints.

A report is a title, a verdict and sections; `estimate_page` makes that of one map, and other commands put
theirs together from the same parts: `table`, `figure_png`, `surface_block`, `heat_map` in its own module.
"""

from __future__ import annotations

import base64
import html
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.errors import Notice
from occupy.io.atomic import write_text
from occupy.report.canvas import png_text
from occupy.report.palette import ink_on, scale_colour
from occupy.report.surfaces import unpack
from occupy.requests import RegionRequest, SetRequest
from occupy.settings import Settings

LARGEST = 5_000_000
_WORDS = {
    "mode": "Mode",
    "tile_size": "Side of the tiles searched for full scale (voxels)",
    "shape": "Grid of the estimate (voxels)",
    "voxel_size": "Voxel size of the estimate (Å)",
    "kernel_voxels": "Voxels of the footprint",
}
_ASSETS = resources.files("occupy.report") / "assets"
# No source but the page itself: a report can neither fetch nor send anything.
_POLICY = "default-src 'none'; img-src data: blob:; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
_CITATION = (
    "Method: B. O. Forsberg, P. N. M. Shah, A. Burt, A robust normalized local filter to estimate "
    "compositional heterogeneity directly from cryo-EM maps, Nature Communications (2023), "
    "doi:10.1038/s41467-023-41478-1."
)


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, as HTML made by the functions of this module."""

    title: str
    body: str


@dataclass(frozen=True)
class Colouring:
    """A way to colour a surface: title, layer of the surface's message, range, colours."""

    title: str
    layer: str
    low: float
    high: float
    colours: tuple[str, ...]


def escaped(text: object) -> str:
    """Return text that HTML takes as text."""
    return html.escape(str(text), quote=True)


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escaped(text)}</p>"


def table(rows: Sequence[Sequence[object]], header: Sequence[str] = (), *, sortable: bool = False) -> str:
    """Return a table; the first column holds names. Sortable: by a click on the name of a column."""
    head = "".join(f"<th>{escaped(cell)}</th>" for cell in header)
    lines = [
        f"<tr><th>{escaped(row[0])}</th>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    ]
    top = f"<thead><tr>{head}</tr></thead>" if header else ""
    kind = ' class="sortable"' if sortable else ""
    return f'<div class="wide"><table{kind}>{top}<tbody>{"".join(lines)}</tbody></table></div>'


def figure_png(figure: Any, caption: str, dpi: int = 110) -> str:
    """Return a matplotlib figure as an image in the page."""
    return (
        f'<figure><img alt="{escaped(caption)}" src="data:image/png;base64,{png_text(figure, dpi)}">'
        f"<figcaption>{escaped(caption)}</figcaption></figure>"
    )


def verdict(notices: Sequence[Notice], *, bad: str = "", good: str = "Nothing doubtful was found.") -> str:
    """Return what a reader must know first: loud where ``bad``, a warning where there are notices."""
    worth_knowing = "".join(f'<p class="faint">{escaped(n.text)}</p>' for n in notices if not n.doubtful)
    items = "".join(f"<li>{escaped(n.text)}</li>" for n in notices if n.doubtful)
    if bad:
        first = f'<div class="verdict bad" role="alert">{escaped(bad)}<ul>{items}</ul></div>'
    elif items:
        first = f'<div class="verdict doubtful">Read this before you use the numbers.<ul>{items}</ul></div>'
    else:
        first = f'<div class="verdict good">{escaped(good)}</div>'
    return first + worth_knowing


def surface_block(
    message: bytes,
    colourings: Sequence[Colouring],
    *,
    lines: npt.ArrayLike = (),
    levels: Sequence[bytes] = (),
    caption: str = "",
    group: str = "",
    small: bool = False,
) -> str:
    """Return a surface to turn.

    Parameters
    ----------
    message : bytes
        From `occupy.report.surfaces.surface_message`, with the layers of the colourings.
    colourings : sequence of Colouring
        The first is shown first.
    lines : array_like, shape (n, 2, 3)
        Segments in Å to draw with it.
    levels : sequence of bytes
        The same surface at other levels, for a slider.
    caption : str
        What it shows.
    group : str
        Surfaces of one group turn together, framed as the first of them.
    small : bool
        Several fit beside each other.
    """
    about = {
        "group": group,
        "colours": [
            {"layer": c.layer, "low": c.low, "high": c.high, "colours": list(c.colours)} for c in colourings
        ],
        "lines": np.round(np.asarray(lines, dtype=float).ravel(), 2).tolist(),
    }
    options = "".join(f'<option value="{i}">{escaped(c.title)}</option>' for i, c in enumerate(colourings))
    # In the order of their levels, each a script of its own: one is unpacked when it is wanted.
    meshes = sorted((message, *levels), key=lambda each: float(unpack(each)[0]["level"]))
    first, last = meshes.index(message), len(meshes) - 1
    packed = (base64.b64encode(zlib.compress(each, 6)).decode() for each in meshes)
    scripts = "".join(f'<script type="text/plain" class="mesh">{each}</script>' for each in packed)
    slider = f'<input type="range" min="0" max="{last}" value="{first}"><output></output>'
    slider = f"<label>Level {slider}</label>" if levels else ""
    data = json.dumps(about, allow_nan=False).replace("<", "\\u003c")
    return (
        f'<div class="surface{" small" if small else ""}"><div class="stage">'
        '<p>Loading the surface …</p><canvas tabindex="0" role="img" '
        f'aria-label="{escaped(caption)}"></canvas><img alt="{escaped(caption)}"></div><div class="bar">'
        f'<label>Colour <select>{options}</select></label>{slider}<div><div class="keybar"></div>'
        '<div class="keyticks"></div></div><button type="button">Reset</button>'
        '<span class="faint hint">drag to turn, shift-drag to move, wheel to zoom</span></div>'
        f'<p class="faint">{escaped(caption)}</p>'
        f'<script type="application/json" class="about">{data}</script>'
        f"{scripts}</div>"
    )


def page(title: str, subtitle: str, opening: str, sections: Sequence[Section]) -> str:
    """Return a whole report.

    Parameters
    ----------
    title, subtitle : str
        Plain text.
    opening : str
        HTML under them: the `verdict`.
    sections : sequence of Section
        The rest, in order.
    """
    css, script = _asset("report.css"), in_one_module("geometry.js", "surface.js", "report.js")
    body = "".join(f"<section><h2>{escaped(s.title)}</h2>{s.body}</section>" for s in sections)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="content-security-policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{css}</style></head><body>"
        f'<h1>{escaped(title)}</h1><p class="faint">{escaped(subtitle)}</p>{opening}{body}'
        f"<footer><p>Made by OccuPy {escaped(__version__)}, {now}. "
        f"This file needs no network and sends nothing.</p><p>{escaped(_CITATION)}</p></footer>"
        f'<script type="module">{script}</script></body></html>\n'
    )


def in_one_module(*names: str) -> str:
    """Return modules of the assets as one, each after what it imports.

    In one module nothing is imported or exported: what another one exports is simply there. (An ``export
    default``, which the notebook's widget is called by, stays.)
    """
    text = "\n".join(_asset(name) for name in names)
    text = re.sub(r'^import .* from "\./.*";\n', "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE)


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def write_page(path: Path, text: str) -> Path:
    """Write a report; it appears under its name when complete."""
    write_text(path, text)
    return path


def settings_table(asked: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    """Return settings as they were asked for and as they held."""
    names = dict.fromkeys((*held, *asked))
    kinds = (RegionRequest, SetRequest, Settings)
    words = {each.name: _in_words(each) for kind in kinds for each in fields(kind)} | _WORDS
    units = {each.name: each.metadata["unit"] for each in fields(Settings)}
    rows = []
    for name in names:
        value, said = _plain(held.get(name)), _said(name, asked, held)
        unit = f" {units[name]}" if units.get(name) and value[:1].isdigit() else ""
        rows.append((words.get(name, name.replace("_", " ")), value + unit, said))
    return table(rows, ("setting", "as it held", "as asked for"))


def _in_words(setting: Field[Any]) -> str:
    """Return what a setting is in a few words: its help up to a colon, semicolon, bracket or full stop."""
    return re.split(r"[:;\[.]| \(", setting.metadata["help"], maxsplit=1)[0].strip()


def _said(name: str, asked: Mapping[str, Any], held: Mapping[str, Any]) -> str:
    if asked.get(name) is None and held.get(name) is not None:
        return "chosen by the program"
    return _plain(asked.get(name))


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(dict.fromkeys(_plain(v) for v in value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
