"""ChimeraX scripts of a set: classes coloured by occupancy, a model by its regions, two classes compared.

Syntax after the ChimeraX user guide (https://www.cgl.ucsf.edu/chimerax/docs/user/): open, volume, color
sample, color byattribute, tile, mseries, target specification, attribute assignment files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.errors import InputError
from occupy.model import AtomicModel
from occupy.report.chimerax import DEPTH, quoted, sampled, scale_key
from occupy.report.palette import DIFFERENCE, MINIMUM_SCALE, SCALE_PALETTE

TILED = 16
"""Up to so many maps are shown side by side; more are shown one at a time, with a slider."""

MOST_SHOWN = 60
"""Of larger sets as many are shown, evenly spread over them."""

UNKNOWN = "#b0b0b0"
_PLAIN_CHAIN = re.compile(r"[A-Za-z0-9]+")
_CLASS = re.compile(r"^.*_class0*(\d+)$")
_LOOKS = ["set bgColor white", "lighting soft"]
_LARGEST_DIFFERENCE = 0.5


@dataclass(frozen=True)
class Shown:
    """One map of a set: its name, the map whose surface is drawn, and its occupancy.

    Both are file names, best relative to the script's folder. ``share`` is its share of all particles.
    """

    name: str
    surface: str
    occupancy: str
    share: float | None = None


def titles(shown: Sequence[Shown]) -> list[str]:
    """Return names as people read them, with shares where they are known: class 1 (32 %).

    Of RELION's names only the class's number is told, where that is enough to tell all maps apart.
    """
    names = [_said(each.name) for each in shown]
    short = [_CLASS.sub(r"class \1", name) for name in names]
    names = short if len(set(short)) == len(short) else names
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
    told = titles(shown)
    names = [f'rename #{i} "{title}"' for i, title in enumerate(told, 1)]
    names += [f'rename #{count + i} "{title}: occupancy"' for i, title in enumerate(told, 1)]
    at = "" if level is None else f" level {level:.5g}"
    draw = [f"volume {maps} hide", f"volume {surfaces} step 1 show style surface{at}"]
    pairs = [(f"#{i}", f"#{count + i}") for i in range(1, count + 1)]
    colour = [sampled(*pair, f"{minimum:g}") for pair in pairs]
    recolour = [sampled(*pair, "$1", "$2") for pair in pairs]
    aliases = [
        f"alias occupy_level volume {surfaces} level $1",
        f"alias occupy_range {'; '.join(recolour)}",
    ]
    key = scale_key("occupancy", minimum)
    if count <= TILED:
        return _joined(head, opened, names, _LOOKS, draw, _tiled(told), colour, aliases, key)
    slider = ["view", f"hide #2-{count} models", f'mseries slider #1-{count} name "Map"']
    return _joined(head, opened, names, _LOOKS, draw, colour, aliases, key, slider)


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
    largest: float = _LARGEST_DIFFERENCE,
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
    first, second = (_said(name) for name in names)
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
        *_LOOKS,
        f"volume #1 step 1 show style surface{at}",
        f"{colouring} {-largest:g},{largest:g}",
        f"alias occupy_difference {colouring} -$1,$1",
    ]
    labels = {0: f"{-largest:g}", len(DIFFERENCE) // 2: "0", len(DIFFERENCE) - 1: f"{largest:g}"}
    marks = " ".join(f"{colour}:{labels.get(i, '')}" for i, colour in enumerate(DIFFERENCE))
    key = [
        f"key {marks} pos 0.66,0.07 size 0.3,0.03 fontSize 18",
        _label(f"less / more in {second} than in {first}", 0.5, 0.115),
        "view",
    ]
    return _joined(head, work, key)


def attribute_name(map_name: str) -> str:
    """Return the name of the residue attribute that holds the occupancy in one map."""
    return "occupancy_" + re.sub(r"[^A-Za-z0-9]", "_", map_name)


def defattr_text(model: AtomicModel, values: npt.ArrayLike, attribute: str) -> str:
    """Return an attribute assignment file that gives residues their values.

    Parameters
    ----------
    model : AtomicModel
        Of one file, any model in ChimeraX with these chains is meant; of several files, #1, #2, …
    values : array_like, shape (residues,)
        NaN: none given.
    attribute : str
        Name of the attribute.
    """
    numbers = np.asarray(values, dtype=np.float64)
    lines = [
        f"# OccuPy {__version__}: occupancy of regions in a map",
        f"attribute: {attribute}",
        "match mode: any",
        "recipient: residues",
    ]
    lines += [f"\t{spec}\t{value:.4f}" for spec, value in _assignments(model, numbers)]
    return "\n".join(lines) + "\n"


def _assignments(model: AtomicModel, values: npt.NDArray[np.float64]) -> Iterator[tuple[str, float]]:
    """Yield target specifications and values: runs of residues in each chain."""
    several = len(model.names) > 1
    order = sorted(
        range(len(model.residues)),
        key=lambda i: (*model.residues[i][:2], model.residues[i].number, model.residues[i].insertion),
    )
    for (file, chain), members in groupby(order, key=lambda i: model.residues[i][:2]):
        whose = f"#{file + 1}" if several else ""
        others = {r.chain for r in model.residues if r.file == file} - {chain}
        where = chain_target(chain, whose) if chain.strip() else _nameless_target(others, whose)
        for first, last, value in _runs(model, list(members), values):
            span = first if first == last else f"{first}-{last}"
            yield where.format(span), value


def chain_target(chain: str, model: str = "") -> str:
    """Return the target specification of residues in a chain, ``{}`` standing for their numbers.

    Chains whose names are not plain letters and digits are given by attribute, in quotes.
    """
    if _PLAIN_CHAIN.fullmatch(chain):
        return f"{model}/{chain}:{{}}"
    name = chain.replace('"', "").replace("{", "{{").replace("}", "}}")
    return (f"{model} & " if model else "") + f'::chain_id="{name}" & :{{}}'


def _nameless_target(others: Iterable[str], model: str = "") -> str:
    """Return the target specification of residues in the chain without a name: in none of the others."""
    # There is no way to write it that holds for PDB (a space) and mmCIF (nothing) alike.
    besides = (
        f" & ~({chain_target(chain).removesuffix(' & :{}').removesuffix(':{}')})" for chain in sorted(others)
    )
    return f"{model}:{{}}{''.join(besides)}"


def _runs(
    model: AtomicModel, members: Sequence[int], values: npt.NDArray[np.float64]
) -> Iterator[tuple[str, str, float]]:
    """Yield first and last residue and value of runs in a chain that have nothing else between them."""
    for value, run in groupby(members, key=lambda i: round(float(values[i]), 4)):
        if math.isfinite(value):
            labels = [model.residues[i].label for i in run]
            yield labels[0], labels[-1], value


def model_script(
    models: Sequence[str],
    attributes: Mapping[str, tuple[str, str]],
    *,
    minimum: float = 0.0,
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
    """
    everything = f"#1-{len(models)}" if len(models) > 1 else "#1"
    first, (shown, _) = next(iter(attributes.items()))
    options = f"{everything} target acs palette {_palette()} range {minimum:g},1 novalue {UNKNOWN}"
    head = [
        f"# OccuPy {__version__}: model coloured by the occupancy of its regions in {_said(first)}",
        "# Grey: in no region. Open it in a fresh session (close session). Other maps:",
        *(f"#   occupy_by {attribute:<30} {_said(name)}" for name, (attribute, _) in attributes.items()),
    ]
    opened = [f"open {quoted(name)}" for name in models]
    opened += [f"open {quoted(file)}" for _, file in attributes.values()]
    look = [
        *_LOOKS,
        f"hide {everything} atoms",
        f"cartoon {everything}",
        # What has no cartoon.
        f"show {everything} & ~protein & ~nucleic & ~solvent atoms",
        f"color byattribute r:{shown} {options}",
        f"alias occupy_by color byattribute r:$1 {options}",
    ]
    return _joined(head, opened, look, scale_key("occupancy", minimum), ["view"])


def _joined(*parts: Sequence[str]) -> str:
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _palette() -> str:
    return ":".join(f"{fraction:g},{colour}" for fraction, colour in SCALE_PALETTE)


def _said(name: str) -> str:
    """Return a name as it may stand within quotes of a command, or in a comment."""
    plain = " ".join(name.split()).replace("\\", "/")
    return plain.replace('"', "'").replace(";", ",")


def _label(text: str, x: float, y: float) -> str:
    return f'2dlabels text "{_said(text)}" xpos {x:g} ypos {y:g} color black size 18'
