"""ChimeraX scripts: a map or classes coloured by scale, a model by its regions, two classes compared.

Syntax after the ChimeraX user guide (https://www.cgl.ucsf.edu/chimerax/docs/user/): open, volume, color
sample, color byattribute, key, alias, shape, 2dlabels, tile, mseries. ChimeraX runs a script in the script's
own folder, so relative names work.
"""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.errors import InputError
from occupy.numerics.histogram import Tile
from occupy.pipeline import Estimate
from occupy.report.palette import ALARM, DIFFERENCE, MINIMUM_SCALE, SCALE, SCALE_PALETTE, WARNING
from occupy.report.surfaces import content_level
from occupy.volume import answer_in

_MODIFIED = ("amplified", "attenuated", "sigmoid", "solvent_excluded")
_ROLES = ("map", "scale", "confidence", *_MODIFIED, "occupancy", "colouring")
# Far above the maps, labels and the key, which take the lowest free numbers.
_FULL_TILE, _SMALLEST_TILE = "#101", "#102"

# Å beneath a surface, along its normal, where ``color sample`` reads: what a contour shows lies in the rim.
# Of 4 to 7 Å this comes nearest to what `occupy.report.surfaces` paints, over levels from 0.1 to 0.7 of full.
DEPTH = 6.0


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
        ``sigmoid``, ``solvent_excluded``, ``occupancy``, ``colouring``. Best relative to the script's folder.
        Models get the numbers 1, 2, … in this order. Surfaces have the colours of ``colouring``, which
        `occupy.report.surfaces.colouring` makes; without it of the occupancy or scale beneath them.
    level : float, optional
        Contour level in the map's units; otherwise `contour_level`.
    minimum_scale : float, default 0
        Lower end of the colours, at least 0 and below 1; the upper end is 1.

    Returns
    -------
    str
        One command per line.
    """
    unknown = set(files) - set(_ROLES)
    if unknown or not {"map", "scale"} <= set(files):
        raise ValueError(
            f"files must hold 'map' and 'scale' and only {', '.join(_ROLES)}, not {sorted(files)}"
        )
    if not 0 <= minimum_scale < 1:
        raise InputError(f"minimum scale must be at least 0 and below 1, not {minimum_scale}")
    if level is not None and not math.isfinite(level):
        raise InputError(f"contour level must be a number, not {level}")
    contour = contour_level(est) if level is None else level
    roles = [role for role in _ROLES if role in files]
    number = {role: i for i, role in enumerate(roles, 1)}
    parts = [
        _head(est, number),
        [f"open {quoted(files[role])}" for role in roles],
        ["set bgColor white", "lighting soft"],
        _surfaces(est, number, contour, minimum_scale),
        _aliases(number, minimum_scale),
        scale_key(_coloured_by(number, est.settings.mode), minimum_scale),
        _tiles(est),
        _warnings(est),
        ["view"],
    ]
    return joined(*parts)


def _coloured_by(files: Collection[str], mode: str = "occupancy") -> str:
    what = answer_in(files)
    return what if what == "occupancy" else "local scale" + " (resolution mode)" * (mode != "occupancy")


def _head(est: Estimate, number: Mapping[str, int]) -> list[str]:
    return [
        f"# OccuPy {__version__}: {' '.join(est.volume.name.split())}, coloured by {_coloured_by(number)}",
        f"# {est.settings.mode} mode, low-pass {est.settings.lowpass:.4g} Å, full scale at map value "
        f"{est.full_scale.value:.4g}, lowest confident scale {est.lowest_confident_scale:.3g}",
        "# Models: " + ", ".join(f"#{i} {role.replace('_', ' ')}" for role, i in number.items()),
        "# Open it in a fresh session (close session), so that models get these numbers. Then:",
        "#   occupy_level 0.05             contour level of all maps; colours follow",
        "#   occupy_scale_range 0.4 1      other range of colours",
        f"#   scale_color #1 #{number['scale']}             colour any surface by any map: the scale",
        "# Contours lie in the rim: colours are those of the matter beneath, carried outwards."
        if "colouring" in number
        else f"# Colours are read {DEPTH:g} Å beneath the surface, since contours lie in the rim.",
    ]


def _shown(number: Mapping[str, int]) -> str:
    """Return the models with a surface worth seeing: the map and the modified maps."""
    return "#" + ",".join(str(number[role]) for role in ("map", *_MODIFIED) if role in number)


def _painted(surfaces: str, number: Mapping[str, int], low: str, high: str = "1") -> str:
    """Return the command that colours surfaces by the map made for it, or by the best there is."""
    if "colouring" in number:
        return sampled(surfaces, f"#{number['colouring']}", low, high, depth=0)
    return sampled(surfaces, f"#{number[answer_in(number)]}", low, high)


def sampled(surfaces: str, scale: str, low: str = "0", high: str = "1", *, depth: float = DEPTH) -> str:
    """Return the command that colours surfaces by what a map of scale or occupancy reads beneath them.

    ChimeraX applies it again whenever a surface changes its level, and reads in the scene's coordinates:
    a map must stand where the surfaces stand that it colours.
    """
    at = f" offset {-depth:g}" if depth else ""
    return f"color sample {surfaces} map {scale} palette {palette_words()} range {low},{high}{at}"


def scale_key(title: str, minimum: float = 0.0) -> list[str]:
    """Return the commands that draw the key of the colours of scale."""
    labels = [f"{minimum + fraction * (1 - minimum):.3g}" for fraction, _ in SCALE_PALETTE]
    labels[1::2] = [""] * (len(labels) // 2)
    return _key(SCALE, labels, title, 0.66)


def _key(colours: Sequence[str], labels: Sequence[str], title: str, x: float) -> list[str]:
    marks = " ".join(f"{colour}:{label}" for colour, label in zip(colours, labels, strict=True))
    return [f"key {marks} pos 0.66,0.07 size 0.3,0.03 fontSize 18", _label(title, x, 0.115, 18, "black")]


def _surfaces(est: Estimate, number: Mapping[str, int], level: float, minimum: float) -> list[str]:
    shown = _shown(number)
    last = [number[role] for role in ("map", *_MODIFIED) if role in number][-1]
    hidden = [str(i) for i in number.values() if i != last]
    return [
        f"volume #{','.join(str(i) for i in number.values())} step 1",
        f"volume {shown} style surface level {level:.5g}",
        _painted(shown, number, f"{minimum:g}"),
        # Pieces smaller than the low-pass resolution are noise.
        f"surface dust {shown} size {est.settings.lowpass:.4g}",
        f"volume #{','.join(hidden)} hide",
        f"volume #{last} show",
    ]


def _aliases(number: Mapping[str, int], minimum: float) -> list[str]:
    shown = _shown(number)
    middle = " ".join(f"{colour}:" for _, colour in SCALE_PALETTE[1:-1])
    key = f"key {SCALE_PALETTE[0][1]}:$1 {middle} {SCALE_PALETTE[-1][1]}:$2"
    return [
        f"alias scale_color {sampled('$1', '$2', f'{minimum:g}')}",
        f"alias occupy_level volume {shown} level $1",
        f"alias occupy_scale_range {_painted(shown, number, '$1', '$2')}; {key}",
    ]


def _tiles(est: Estimate) -> list[str]:
    """Return spheres on the tile that gave full scale and on the emptiest; none where no tile gave it."""
    if est.full_scale.source != "tile":
        return []
    lines = ["# Full scale comes from the fullest tile"]
    for model, tile, name, colour in (
        (_FULL_TILE, est.full_scale.largest, "full-scale tile", DIFFERENCE[-1]),
        (_SMALLEST_TILE, est.full_scale.smallest, "emptiest tile", DIFFERENCE[0]),
    ):
        centre, radius = tile_sphere(est, tile)
        x, y, z = (f"{value + 0.0:.2f}" for value in centre)
        lines.append(f"shape sphere center {x},{y},{z} radius {radius:.2f} color {colour} modelId {model}")
        lines.append(f'rename {model} "{name}"')
    lines.append(f"transparency {_FULL_TILE},{_SMALLEST_TILE[1:]} 60 target s")
    return lines


def _label(text: str, x: float, y: float, size: int, colour: str, *, bold: bool = False) -> str:
    weight = " bold true" if bold else ""
    return f'2dlabels text "{spoken(text)}" xpos {x:g} ypos {y:.4g} color {colour} size {size}{weight}'


def _warnings(est: Estimate) -> list[str]:
    """Return labels: a loud one where the solvent fit is bad, small ones for everything doubtful.

    What is only information (half-maps that were found beside the map) is no label.
    """
    lines, top = [], 0.95
    if est.solvent_fit_is_bad:
        lines.append(_label("BAD SOLVENT FIT: do not trust the confidence", 0.02, 0.93, 28, ALARM, bold=True))
        top = 0.89
    for notice in (notice for notice in est.notices if notice.doubtful):
        for text in textwrap.wrap(notice.text, 90):
            lines.append(_label(text, 0.02, top, 16, ALARM if notice.grave else WARNING))
            top -= 0.03
    return lines


# Up to so many maps are shown side by side, more one at a time, with a slider; of very large sets so many.
_TILED, MOST_SHOWN = 16, 60

_UNKNOWN = "#b0b0b0"
LOOKS = ["set bgColor white", "lighting soft"]


@dataclass(frozen=True)
class Shown:
    """One map of a set: its name, the map whose surface is drawn, and its occupancy.

    Both are file names, best relative to the script's folder. ``share`` is its share of all particles.
    """

    name: str
    surface: str
    occupancy: str
    share: float | None = None


def _titles(shown: Sequence[Shown]) -> list[str]:
    """Return names as people read them, with shares where they are known: class 1 (32 %).

    Of RELION's names only the class's number is told, where that is enough to tell all maps apart.
    """
    from occupy.report.tables import short_names

    names = short_names([spoken(each.name) for each in shown])
    shares = ["" if each.share is None else f" ({100 * each.share:.0f} %)" for each in shown]
    return [name + share for name, share in zip(names, shares, strict=True)]


def picked(names: Sequence[str]) -> list[str]:
    """Return the maps of a set to show: all, or of more than 60 as many, evenly spread."""
    return [names[i] for i in np.linspace(0, len(names) - 1, min(len(names), MOST_SHOWN)).astype(int)]


def classes_script(
    shown: Sequence[Shown],
    *,
    level: float | None = None,
    minimum: float = MINIMUM_SCALE,
    of: int | None = None,
) -> str:
    """Return a script of all maps of a set, coloured by their occupancies, at one level.

    Up to 16 maps stand side by side. More are shown one at a time with a slider (``mseries``, which keeps
    the colours of surfaces; ``vseries`` would compute each surface anew and lose them).

    Parameters
    ----------
    shown : sequence of Shown
        The maps, in the order to show them (see `picked`).
    level : float, optional
        Contour level of all maps, in their units; otherwise ChimeraX chooses one for each.
    minimum : float
        Lower end of the colours.
    of : int, optional
        Number of maps in the set, where not all are shown.
    """
    if not shown:
        raise ValueError("no maps to show")
    if level is not None and not math.isfinite(level):
        raise InputError(f"contour level must be a number, not {level}")
    count = len(shown)
    surfaces, maps = f"#1-{count}", f"#{count + 1}-{2 * count}"
    head = [
        f"# OccuPy {__version__}: {count} of {of or count} maps, coloured by occupancy",
        f"# Maps are {surfaces}, their occupancies {maps}. Open it in a fresh session (close session).",
        "# An occupancy map stands where its map stands, so levels and ranges can be changed:",
        "#   occupy_level 0.05             contour level of all maps; colours follow",
        "#   occupy_range 0.4 1            other range of colours",
    ]
    opened = [f"open {quoted(each.surface)}" for each in shown]
    opened += [f"open {quoted(each.occupancy)}" for each in shown]
    told = _titles(shown)
    names = [f'rename #{i} "{title}"' for i, title in enumerate(told, 1)]
    names += [f'rename #{count + i} "{title}: occupancy"' for i, title in enumerate(told, 1)]
    at = "" if level is None else f" level {level:.5g}"
    draw = [f"volume {maps} hide", f"volume {surfaces} step 1 show style surface{at}"]
    pairs = [(f"#{i}", f"#{count + i}") for i in range(1, count + 1)]
    colour = [sampled(*pair, f"{minimum:g}") for pair in pairs]
    recolour = [sampled(*pair, "$1", "$2") for pair in pairs]
    aliases = [f"alias occupy_level volume {surfaces} level $1", f"alias occupy_range {'; '.join(recolour)}"]
    key = scale_key("occupancy", minimum)
    if count <= _TILED:
        return joined(head, opened, names, LOOKS, draw, _tiled(told), colour, aliases, key)
    slider = ["view", f"hide #2-{count} models", f'mseries slider #1-{count} name "Map"']
    return joined(head, opened, names, LOOKS, draw, colour, aliases, key, slider)


def _tiled(told: Sequence[str]) -> list[str]:
    """Return commands that put maps side by side, and each occupancy map where its map went."""
    count, order = len(told), "; ".join(told)
    return [
        f"# From left to right and down: {order}",
        f"tile #1-{count} columns {math.ceil(math.sqrt(count))} spacingFactor 0.8",
        *(f"view position #{count + i} sameAsModels #{i}" for i in range(1, count + 1)),
    ]


def difference_script(
    surface: str,
    occupancies: tuple[str, str],
    names: tuple[str, str],
    *,
    level: float | None = None,
    largest: float = 0.5,
) -> str:
    """Return a script that colours one surface by the difference of two occupancies.

    Second minus first, as everywhere: blue where the second has more, red where it has less.

    Parameters
    ----------
    surface : str
        Map whose surface is drawn: one that has all parts, such as the composite.
    occupancies, names : tuple of str
        Files and names of the first and the second.
    level : float, optional
        Contour level of the surface.
    largest : float
        Difference at the ends of the colours, above 0.
    """
    if not largest > 0:
        raise InputError(f"the largest difference must be above 0, not {largest}")
    first, second = (spoken(name) for name in names)
    at = "" if level is None else f" level {level:.5g}"
    colouring = f"color sample #1 map #4 palette {':'.join(DIFFERENCE)} offset {-DEPTH:g} range"
    head = [
        f"# OccuPy {__version__}: occupancy of {second} minus {first}",
        "# #1 surface, #2 and #3 the occupancies, #4 their difference. Open it in a fresh session.",
        "#   occupy_difference 0.3         difference at the ends of the colours",
    ]
    work = [
        f"open {quoted(surface)}",
        *(f"open {quoted(name)}" for name in occupancies),
        "volume subtract #3 #2 modelId #4",
        "volume #2-4 hide",
        *LOOKS,
        f"volume #1 step 1 show style surface{at}",
        f"{colouring} {-largest:g},{largest:g}",
        f"alias occupy_difference {colouring} -$1,$1",
    ]
    none = [""] * (len(DIFFERENCE) // 2 - 1)
    labels = [f"{-largest:g}", *none, "0", *none, f"{largest:g}"]
    key = _key(DIFFERENCE, labels, f"less / more in {second} than in {first}", 0.5)
    return joined(head, work, [*key, "view"])


def model_script(
    models: Sequence[str],
    attributes: Mapping[str, tuple[str, str]],
    *,
    minimum: float = 0.0,
    residual: tuple[str, float] | None = None,
) -> str:
    """Return a script that colours a model by the occupancy of its regions.

    Parameters
    ----------
    models : sequence of str
        Files of the model, opened as #1, #2, …
    attributes : mapping
        Map → (attribute, its ``.defattr`` file); the first is shown.
    minimum : float
        Lower end of the colours.
    residual : tuple of str and float, optional
        Map of what the fitted model leaves over, and the level at which it is drawn, hidden at first: in the
        colours of differences, what the map has less and more.
    """
    everything = f"#1-{len(models)}" if len(models) > 1 else "#1"
    first, (shown, _) = next(iter(attributes.items()))
    options = f"{everything} target acs palette {palette_words()} range {minimum:g},1 novalue {_UNKNOWN}"
    head = [
        f"# OccuPy {__version__}: model coloured by the occupancy of its regions in {spoken(first)}",
        "# Grey: in no region. Open it in a fresh session (close session). Other maps:",
        *(f"#   occupy_by {attribute:<30} {spoken(name)}" for name, (attribute, _) in attributes.items()),
    ]
    opened = [f"open {quoted(name)}" for name in models]
    opened += [f"open {quoted(file)}" for _, file in attributes.values()]
    look = [
        *LOOKS,
        f"hide {everything} atoms",
        f"cartoon {everything}",
        # What has no cartoon.
        f"show {everything} & ~protein & ~nucleic & ~solvent atoms",
        f"color byattribute r:{shown} {options}",
        f"alias occupy_by color byattribute r:$1 {options}",
    ]
    left_over = []
    if residual is not None:
        (file, level), number = residual, len(models) + 1
        head.append("#   occupy_residual               what the fit leaves over: red less, blue more")
        sides = f"level {-level:.3g} color {DIFFERENCE[0]} level {level:.3g} color {DIFFERENCE[-1]}"
        left_over = [
            f"open {quoted(file)}",
            f'rename #{number} "residual"',
            f"volume #{number} step 1 style surface {sides}",
            f"hide #{number} models",
            f"alias occupy_residual show #{number} models",
        ]
    return joined(head, opened, look, left_over, scale_key("occupancy", minimum), ["view"])


def joined(*parts: Sequence[str]) -> str:
    """Return the text of a script: parts with an empty line between them."""
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def palette_words() -> str:
    """Return the colours of scale as ChimeraX takes a palette."""
    return ":".join(f"{fraction:g},{colour}" for fraction, colour in SCALE_PALETTE)


def spoken(text: str) -> str:
    """Return text as it may stand within quotes of a command, or in a comment."""
    # Backslashes begin escapes, semicolons could end the command.
    return " ".join(text.split()).replace("\\", "/").replace('"', "'").replace(";", ",")
