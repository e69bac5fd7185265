"""Files that ChimeraX can open: the input or a copy, attributes of residues, and scripts of products.

ChimeraX opens neither compressed maps nor compressed mmCIF files, knows formats by the ends of names, and
takes the voxel size from the header.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from occupy._version import __version__
from occupy.errors import InputError
from occupy.io.atomic import atomic_file, is_utf8
from occupy.io.mrc import SUFFIXES, read_header, read_map, write_map
from occupy.report.chimerax import LOOKS, joined, palette_words, quoted, sampled, scale_key, spoken

if TYPE_CHECKING:
    from occupy.model import AtomicModel


_WHAT = "input"
_PLAIN_CHAIN = re.compile(r"[A-Za-z0-9]+")


def seen_from(folder: Path, path: Path) -> str:
    """Return a path as a script in ``folder`` should name it: relative where both may be copied together."""
    relative = os.path.relpath(path.resolve(), folder.resolve())
    return relative if relative.count("..") <= 2 else str(path.resolve())


def copy_name(stem: str) -> str:
    """Return the name of the copy of an input map."""
    return f"{stem}_{_WHAT}.mrc"


def opens_as_read(folder: Path, path: Path, voxel_size: npt.ArrayLike | None = None) -> bool:
    """Tell whether ChimeraX, given a map's file, shows what is read here.

    Parameters
    ----------
    folder : Path
        Of the script.
    path : Path
        The map. Where it cannot be read at all, a copy would not help: True.
    voxel_size : array_like, optional
        Å that were used in place of the header's.
    """
    if not is_utf8(seen_from(folder, path)):
        return False
    try:
        header = read_header(path)
    except InputError:
        return True
    if header.compressed or not path.name.lower().endswith(SUFFIXES) or header.dtype.itemsize == 1:
        # Of 8-bit maps ChimeraX takes some as unsigned that are not.
        return False
    try:
        size = header.voxel_size(path)
    except InputError:
        return False
    return voxel_size is None or bool(np.allclose(size, voxel_size, rtol=1e-4))


def map_for_chimerax(
    folder: Path, path: Path, stem: str, voxel_size: float | None = None
) -> tuple[str, bool]:
    """Return how a script names a map, and whether a copy of it had to be written for that.

    Parameters
    ----------
    folder : Path
        Of the script.
    path : Path
        The map.
    stem : str
        Of the copy.
    voxel_size : float, optional
        Å, in place of the header's.
    """
    if opens_as_read(folder, path, voxel_size):
        return seen_from(folder, path), False
    write_map(folder / copy_name(stem), read_map(path, voxel_size=voxel_size), _WHAT)
    return copy_name(stem), True


def model_for_chimerax(folder: Path, path: Path, stem: str) -> tuple[str, bool]:
    """Return how a script names a model, and whether a copy of it had to be written for that."""
    from occupy.io.models import is_pdb
    from occupy.io.star import read_bytes

    packed = path.name.lower().endswith(".gz")
    if is_utf8(seen_from(folder, path)) and (not packed or is_pdb(path)):
        return seen_from(folder, path), False
    name = f"{stem}_{_WHAT}.{'pdb' if is_pdb(path) else 'cif'}"
    with atomic_file(folder / name) as part:
        part.write_bytes(read_bytes(path))
    return name, True


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
        where = _chain_target(chain, whose) if chain.strip() else _nameless_target(others, whose)
        for first, last, value in _runs(model, list(members), values):
            span = first if first == last else f"{first}-{last}"
            yield where.format(span), value


def _chain_target(chain: str, model: str = "") -> str:
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
        f" & ~({_chain_target(chain).removesuffix(' & :{}').removesuffix(':{}')})" for chain in sorted(others)
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


def modified_script(
    name: str, files: tuple[str, str], modified: Mapping[str, str], *, level: float, dust: float
) -> str:
    """Return a script of a map and its modified maps at one level, coloured by the local scale.

    Parameters
    ----------
    name : str
        Of the map.
    files : tuple of str
        The map, and its local scale.
    modified : mapping of str to str
        What was done → file. The last is shown, the others are hidden.
    level : float
        Contour level of all of them.
    dust : float
        Å; smaller pieces are hidden.
    """
    last = len(modified) + 2
    surfaces = "#" + ",".join(str(i) for i in (1, *range(3, last + 1)))
    titles = [f"{spoken(name)}: input", "local scale", *(what.replace("_", " ") for what in modified)]
    head = [
        f"# OccuPy {__version__}: modified maps of {spoken(name)}, coloured by local scale",
        "# Models: " + ", ".join(f"#{i} {title}" for i, title in enumerate(titles, 1)),
        "# Open it in a fresh session (close session), so that models get these numbers. Then:",
        "#   occupy_level 0.05             contour level of all maps; colours follow",
        "#   occupy_show 1                 show one of them, by its number",
    ]
    draw = [
        f"volume {surfaces},2 step 1",
        f"volume {surfaces} style surface level {level:.5g}",
        sampled(surfaces, "#2"),
        f"surface dust {surfaces} size {dust:.4g}",
        f"volume #1-{last} hide",
        f"volume #{last} show",
        f"alias occupy_level volume {surfaces} level $1",
        f"alias occupy_show volume #1-{last} hide; volume #$1 show",
    ]
    opened = [*_opened([*files, *modified.values()]), *_renamed(titles)]
    return joined(head, opened, LOOKS, draw, scale_key("local scale"), ["view"])


def mask_script(mask: str, scale: str, map_file: str | None = None, *, level: float | None = None) -> str:
    """Return a script of a mask, see-through, over the map it was made for, coloured by its local scale.

    Parameters
    ----------
    mask, scale : str
        Files.
    map_file : str, optional
        The map; without it the surface of the local scale at one half is shown.
    level : float, optional
        Contour level of the map, otherwise ChimeraX's own.
    """
    titles = ["mask", "local scale", *(["map"] if map_file else [])]
    surface = f"#{len(titles)}"
    at = (" level 0.5" if map_file is None else "") if level is None else f" level {level:.5g}"
    head = [
        f"# OccuPy {__version__}: a mask at one half over the {titles[-1]}",
        "# Models: " + ", ".join(f"#{i} {title}" for i, title in enumerate(titles, 1)),
        "# Open it in a fresh session (close session). Then:",
        "#   occupy_mask 0.9               another level of the mask",
    ]
    draw = [
        f"volume #1-{len(titles)} step 1",
        "volume #2 hide",
        f"volume {surface} show style surface{at}",
        sampled(surface, "#2"),
        "volume #1 show style surface level 0.5",
        "transparency #1 65 target s",
        "alias occupy_mask volume #1 level $1",
    ]
    opened = [*_opened([mask, scale, *([map_file] if map_file else [])]), *_renamed(titles)]
    return joined(head, opened, LOOKS, draw, scale_key("local scale"), ["view"])


def simulation_script(maps: Mapping[str, str], model: str, level: float) -> str:
    """Return a script of simulated maps over their model, whose atoms are coloured by true occupancy.

    Parameters
    ----------
    maps : mapping of str to str
        Title → file. The first is shown, the others are hidden.
    model : str
        File of the model, whose atoms carry the occupancies of the first map.
    level : float
        Contour level of all maps.
    """
    count = len(maps)
    atoms, titles = f"#{count + 1}", [spoken(title) for title in maps]
    head = [
        f"# OccuPy {__version__}: simulated maps, and the model coloured by its occupancy in {titles[0]}",
        f"# Models: maps are #1-{count}, the model is {atoms}.",
        "# Open it in a fresh session (close session). Then:",
        "#   occupy_level 0.05             contour level of all maps",
        "#   occupy_show 1                 show one of them, by its number",
    ]
    draw = [
        f"volume #1-{count} step 1 style surface level {level:.5g}",
        f"volume #1-{count} hide",
        "volume #1 show",
        f"transparency #1-{count} 65 target s",
        f"hide {atoms} atoms",
        f"cartoon {atoms}",
        f"color byattribute a:occupancy {atoms} target acs palette {palette_words()} range 0,1",
        f"alias occupy_level volume #1-{count} level $1",
        f"alias occupy_show volume #1-{count} hide; volume #$1 show",
    ]
    opened = [*_opened([*maps.values(), model]), *_renamed(titles)]
    return joined(head, opened, LOOKS, draw, scale_key("true occupancy"), ["view"])


def _opened(files: Sequence[str]) -> list[str]:
    return [f"open {quoted(file)}" for file in files]


def _renamed(titles: Sequence[str]) -> list[str]:
    return [f'rename #{i} "{title}"' for i, title in enumerate(titles, 1)]
