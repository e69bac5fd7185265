"""A ChimeraX script that shows a map coloured by its local scale.

Syntax after the ChimeraX user guide (https://www.cgl.ucsf.edu/chimerax/docs/user/): open, volume, color,
key, alias, shape, 2dlabels. ChimeraX runs a script in the script's own folder, so relative names work.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.errors import InputError
from occupy.numerics.quantiles import Tile
from occupy.pipeline import Estimate
from occupy.report.notices import doubtful
from occupy.report.palette import ALARM, DIFFERENCE, MINIMUM_SCALE, SCALE_PALETTE
from occupy.report.surfaces import content_level

MODIFIED = ("amplified", "attenuated", "sigmoid", "solvent_excluded")
ROLES = ("map", "scale", "confidence", *MODIFIED)
# Far above the maps, labels and the key, which take the lowest free numbers.
FULL_TILE, SMALLEST_TILE = "#101", "#102"

# Å beneath a surface, along its normal, where ``color sample`` reads: what a contour shows lies in the rim.
# Of 3, 4, 5 and 6 Å this comes nearest to what `occupy.report.surfaces.beneath` paints.
DEPTH = 5.0
_LABEL_WIDTH = 90


def quoted(name: str) -> str:
    """Quote a file name for a ChimeraX command.

    Parameters
    ----------
    name : str
        Path, absolute or relative to the script's folder.

    Raises
    ------
    InputError
        Where ChimeraX has no way to write the name: both kinds of quotes, a backslash (it would begin an
        escape sequence) or a line break.
    """
    if os.sep == "\\":
        name = name.replace(os.sep, "/")
    if any(ord(c) < 32 for c in name):
        raise InputError(f"the file name {name!r} holds a line break or control character; rename the file")
    if "\\" in name:
        raise InputError(
            f"the file name {name!r} holds a backslash, which ChimeraX cannot open; rename the file"
        )
    mark = "'" if '"' in name else '"'
    if mark in name:
        raise InputError(f"the file name {name!r} holds both kinds of quotes; rename the file")
    return f"{mark}{name}{mark}"


def tile_bounds(est: Estimate, tile: Tile) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the outer edges of a tile on the map's own grid.

    Parameters
    ----------
    est : Estimate
        Its working grid may be coarser than the map's; both begin at the same point.
    tile : Tile
        On the working grid.

    Returns
    -------
    low, high : ndarray, shape (3,)
        Fractional indices (section, row, column) of the tile's faces: voxel i reaches from i − ½ to i + ½.
    """
    factor = np.divide(est.volume.shape, est.settings.shape)
    low = np.array(tile.start) - 0.5
    return low * factor, (low + est.full_scale.tile_size) * factor


def tile_sphere(est: Estimate, tile: Tile) -> tuple[npt.NDArray[np.float64], float]:
    """Return centre (x, y, z) and radius in Å of the sphere that stands for a tile.

    Its diameter is the tile's (mean) side.
    """
    low, high = tile_bounds(est, tile)
    side = float(np.mean((high - low) * est.volume.voxel_size))
    return est.volume.position((low + high) / 2), side / 2


def contour_level(est: Estimate) -> float:
    """Return the contour level of an estimate's map; see `occupy.report.surfaces.content_level`."""
    lowest = 0.0 if est.solvent_fit_is_bad else est.curve.crossing(0.5)
    return content_level(est.volume.data, est.full_scale.value, lowest, est.facts.high)


def chimerax_script(
    est: Estimate,
    files: Mapping[str, str],
    *,
    level: float | None = None,
    minimum_scale: float = MINIMUM_SCALE,
) -> str:
    """Return the text of a ChimeraX command script.

    Parameters
    ----------
    est : Estimate
        What was found.
    files : mapping
        Role → file: ``map`` and ``scale``, where written ``confidence``, ``amplified``, ``attenuated``,
        ``sigmoid``, ``solvent_excluded``. Best relative to the script's folder. Models get the numbers 1,
        2, … in this order.
    level : float, optional
        Contour level in the map's units; otherwise `contour_level`.
    minimum_scale : float, default 0
        Lower end of the colours, at least 0 and below 1; the upper end is 1.

    Returns
    -------
    str
        One command per line.
    """
    unknown = set(files) - set(ROLES)
    if unknown or not {"map", "scale"} <= set(files):
        raise ValueError(
            f"files must hold 'map' and 'scale' and only {', '.join(ROLES)}, not {sorted(files)}"
        )
    if not 0 <= minimum_scale < 1:
        raise InputError(f"minimum scale must be at least 0 and below 1, not {minimum_scale}")
    if level is not None and not math.isfinite(level):
        raise InputError(f"contour level must be a number, not {level}")
    contour = contour_level(est) if level is None else level
    roles = [role for role in ROLES if role in files]
    number = {role: i for i, role in enumerate(roles, 1)}
    parts = [
        _head(est, number),
        [f"open {quoted(files[role])}" for role in roles],
        ["set bgColor white", "lighting soft"],
        _surfaces(est, number, contour, minimum_scale),
        _aliases(number, minimum_scale),
        _key(est, minimum_scale),
        _tiles(est),
        _warnings(est),
        ["view"],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _head(est: Estimate, number: Mapping[str, int]) -> list[str]:
    name = " ".join(est.volume.name.split())
    return [
        f"# OccuPy {__version__}: local scale of {name}",
        f"# {est.settings.mode} mode, low-pass {est.settings.lowpass:.4g} Å, full scale at map value "
        f"{est.full_scale.value:.4g}, lowest confident scale {est.lowest_confident_scale:.3g}",
        "# Models: " + ", ".join(f"#{i} {role.replace('_', ' ')}" for role, i in number.items()),
        "# Open it in a fresh session (close session), so that models get these numbers. Then:",
        "#   occupy_level 0.05             contour level of all maps; colours follow",
        "#   occupy_scale_range 0.4 1      other range of colours",
        f"#   scale_color #1 #{number['scale']}             colour any surface by any scale",
        f"# Colours are read {DEPTH:g} Å beneath the surface, since contours lie in the rim.",
    ]


def _shown(number: Mapping[str, int]) -> str:
    """Return the models with a surface worth seeing: the map and the modified maps."""
    return "#" + ",".join(str(number[role]) for role in ("map", *MODIFIED) if role in number)


def sampled(surfaces: str, scale: str, low: str = "0", high: str = "1") -> str:
    """Return the command that colours surfaces by what a map of scale or occupancy reads beneath them.

    ChimeraX applies it again whenever a surface changes its level, and reads in the scene's coordinates:
    a map must stand where the surfaces stand that it colours.
    """
    palette = ":".join(f"{fraction:g},{colour}" for fraction, colour in SCALE_PALETTE)
    return f"color sample {surfaces} map {scale} palette {palette} range {low},{high} offset {-DEPTH:g}"


def scale_key(title: str, minimum: float = 0.0) -> list[str]:
    """Return the commands that draw the key of the colours of scale."""
    labels = []
    for i, (fraction, colour) in enumerate(SCALE_PALETTE):
        label = f"{minimum + fraction * (1 - minimum):.3g}" if i % 2 == 0 else ""
        labels.append(f"{colour}:{label}")
    return [
        f"key {' '.join(labels)} pos 0.66,0.07 size 0.3,0.03 fontSize 18",
        _label(title, 0.66, 0.115, 18, "black"),
    ]


def _surfaces(est: Estimate, number: Mapping[str, int], level: float, minimum: float) -> list[str]:
    shown = _shown(number)
    last = [number[role] for role in ("map", *MODIFIED) if role in number][-1]
    hidden = [str(i) for i in number.values() if i != last]
    return [
        f"volume #{','.join(str(i) for i in number.values())} step 1",
        f"volume {shown} style surface level {level:.5g}",
        sampled(shown, f"#{number['scale']}", f"{minimum:g}"),
        # Pieces smaller than the low-pass resolution are noise.
        f"surface dust {shown} size {est.settings.lowpass:.4g}",
        f"volume #{','.join(hidden)} hide",
        f"volume #{last} show",
    ]


def _aliases(number: Mapping[str, int], minimum: float) -> list[str]:
    shown, scale = _shown(number), f"#{number['scale']}"
    middle = " ".join(f"{colour}:" for _, colour in SCALE_PALETTE[1:-1])
    key = f"key {SCALE_PALETTE[0][1]}:$1 {middle} {SCALE_PALETTE[-1][1]}:$2"
    return [
        f"alias scale_color {sampled('$1', '$2', f'{minimum:g}')}",
        f"alias occupy_level volume {shown} level $1",
        f"alias occupy_scale_range {sampled(shown, scale, '$1', '$2')}; {key}",
    ]


def _key(est: Estimate, minimum: float) -> list[str]:
    return scale_key(
        "local scale" if est.settings.mode == "occupancy" else "local scale (resolution mode)", minimum
    )


def _tiles(est: Estimate) -> list[str]:
    """Return spheres on the tile that gave full scale and on the emptiest; none where no tile gave it."""
    if est.full_scale.source != "tile":
        return []
    lines = ["# Full scale comes from the fullest tile"]
    for model, tile, name, colour in (
        (FULL_TILE, est.full_scale.largest, "full-scale tile", DIFFERENCE[-1]),
        (SMALLEST_TILE, est.full_scale.smallest, "emptiest tile", DIFFERENCE[0]),
    ):
        centre, radius = tile_sphere(est, tile)
        x, y, z = (f"{value + 0.0:.2f}" for value in centre)
        lines.append(f"shape sphere center {x},{y},{z} radius {radius:.2f} color {colour} modelId {model}")
        lines.append(f'rename {model} "{name}"')
    lines.append(f"transparency {FULL_TILE},{SMALLEST_TILE[1:]} 60 target s")
    return lines


def _label(text: str, x: float, y: float, size: int, colour: str, *, bold: bool = False) -> str:
    # Backslashes begin escapes, semicolons could end the command.
    plain = text.replace("\\", "/").replace('"', "'").replace(";", ",")
    weight = " bold true" if bold else ""
    return f'2dlabels text "{plain}" xpos {x:g} ypos {y:.4g} color {colour} size {size}{weight}'


def _warnings(est: Estimate) -> list[str]:
    """Return labels: a loud one where the solvent fit is bad, small ones for everything doubtful.

    What is only information (half-maps that were found beside the map) is no label.
    """
    lines, top = [], 0.95
    if est.solvent_fit_is_bad:
        lines.append(_label("BAD SOLVENT FIT: do not trust the confidence", 0.02, 0.93, 28, ALARM, bold=True))
        top = 0.89
    for notice in doubtful(est.notices):
        for text in textwrap.wrap(notice.text, _LABEL_WIDTH):
            lines.append(_label(text, 0.02, top, 16, ALARM))
            top -= 0.03
    return lines
