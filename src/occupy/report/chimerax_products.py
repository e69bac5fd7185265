"""ChimeraX scripts of what is made from an estimate (modified maps, masks), and of simulated maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from occupy._version import __version__
from occupy.report.chimerax import LOOKS, joined, palette_words, quoted, sampled, scale_key, spoken


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
