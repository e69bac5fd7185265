"""A set of maps that belong together, what all ways to find one share, and the half-maps beside a map."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from occupy.errors import InputError, Notice
from occupy.io.atomic import is_file
from occupy.io.mrc import STACK_SUFFIXES, SUFFIXES, map_stem, read_header

_SetKind = Literal["relion", "cryosparc", "cryodrgn", "recovar", "cryostar", "files"]

_KINDS = {
    "relion": "RELION classes",
    "cryosparc": "cryoSPARC volumes",
    "cryodrgn": "cryoDRGN volumes",
    "recovar": "RECOVAR volumes",
    "cryostar": "cryoSTAR volumes",
}
_ENDINGS = tuple(s + packed for s in (*SUFFIXES, *STACK_SUFFIXES) for packed in ("", ".gz", ".bz2"))


@dataclass(frozen=True)
class ClassMap:
    """One map of a set and what its source says about it.

    Attributes
    ----------
    path : Path
        The file.
    name : str
        For tables and output files; unique within its set.
    number : int or None
        Class number as in the source, counted from where the source counts (see `MapSet.base`).
    weight : float or None
        Soft class distribution: the class's share of all particles, from posterior probabilities.
    particles : int or None
        Number of particles assigned to the class (hard), where it was asked for.
    resolution : float or None
        Å, as the source estimates it.
    ssnr, tau2, sigma2 : tuple of float or None
        Spectral signal-to-noise ratio and power of signal and noise per shell, from shell 0.
    """

    path: Path
    name: str
    number: int | None = None
    weight: float | None = None
    particles: int | None = None
    resolution: float | None = None
    ssnr: tuple[float, ...] | None = None
    tau2: tuple[float, ...] | None = None
    sigma2: tuple[float, ...] | None = None


@dataclass(frozen=True)
class MapSet:
    """The maps of one experiment.

    Attributes
    ----------
    kind : str
        Where they come from: ``relion``, ``cryosparc``, ``cryodrgn``, ``recovar``, ``cryostar`` or ``files``.
    source : Path
        The model.star, the job folder, or the folder that all files share.
    maps : tuple of ClassMap
        At least two, in the order of the source.
    pixel_size : float or None
        Å per voxel; of the first map where the source does not say.
    box : int or None
        Voxels along an edge, where the maps are cubes.
    iteration : int or None
        Iteration of the job.
    tau_fudge : float or None
        RELION's regularisation parameter T.
    base : int or None
        Number of the source's first class (0 or 1), where that could be told.
    notices : tuple of Notice
        What was doubtful.
    unregularised : bool
        Each map's file is the unregularised reconstruction of a class that occupy drew towards the others in
        RELION's loop; it keeps the class's name (see `occupy.io.loop`).
    """

    kind: _SetKind
    source: Path
    maps: tuple[ClassMap, ...]
    pixel_size: float | None = None
    box: int | None = None
    iteration: int | None = None
    tau_fudge: float | None = None
    base: int | None = None
    notices: tuple[Notice, ...] = ()
    unregularised: bool = False

    @property
    def stem(self) -> str:
        """What results are called after: the source's name without what RELION adds."""
        name = self.source.name
        return name.removesuffix(".star").removesuffix("_model").removesuffix("_optimiser") or "set"

    def named(self, text: str) -> str:
        """Return the name of the map that a name or a class number means; InputError where there is none."""
        names = [entry.name for entry in self.maps]
        by_number = [entry.name for entry in self.maps if text.isdecimal() and entry.number == int(text)]
        if text not in names and len(by_number) != 1:
            raise InputError(f"--compare {text}: no such class; there are {', '.join(names[:8])}")
        return text if text in names else by_number[0]

    def describe(self) -> list[str]:
        """Return lines for people: what was found."""
        iteration = "" if self.iteration is None else f", iteration {self.iteration}"
        lines = [f"{len(self.maps)} {_KINDS.get(self.kind, 'maps')} of {self.source}{iteration}"]
        base = None if self.kind == "relion" else self.base
        grid = [
            text.format(value)
            for text, value in (
                ("box {}", self.box),
                ("voxel size {:.4g} Å", self.pixel_size),
                ("T = {:g}", self.tau_fudge),
                ("numbered from {}", base),
            )
            if value is not None
        ]
        lines += [", ".join(grid)] * bool(grid)
        if self.unregularised:
            lines.append(
                "occupy was in RELION's loop: occupancy is read in the unregularised maps of the classes"
            )
        shown = self.maps[:12]
        lines += [_describe_map(entry) for entry in shown]
        if len(self.maps) > len(shown):
            lines.append(f"  … and {len(self.maps) - len(shown)} more, the last {self.maps[-1].name}")
        return lines

    @classmethod
    def of(
        cls,
        kind: _SetKind,
        source: Path,
        paths: Sequence[Path],
        numbers: Sequence[int | None],
        *,
        iteration: int | None = None,
        base: int | None = None,
        notices: Sequence[Notice] = (),
        counts: Mapping[int, int] | None = None,
    ) -> MapSet:
        """Make a set of maps of which no more is known than names, numbers and particles per number."""
        if not paths:
            raise InputError(f"{source}: no maps in it")
        if len(paths) == 1:
            raise InputError(
                f"only one map: {paths[0]}; a set needs at least two (for a single map: occupy estimate)"
            )
        grids = [_grid(path) for path in paths]
        notices = list(notices)
        if len(set(grids)) > 1:
            other = next(path for path, grid in zip(paths, grids, strict=True) if grid != grids[0])
            notices.append(
                Notice(
                    "grids", f"box or voxel size differ, for example between {paths[0].name} and {other.name}"
                )
            )
        box, pixel_size = _cube(grids[0])
        entries = zip(paths, _unique_names(paths), numbers, strict=True)
        known = {number: (counts or {}).get(number or 0) for number in numbers}
        total = sum(count or 0 for count in known.values())
        shares = {
            n: c / total for n, c in known.items() if c is not None and None not in known.values() and total
        }
        maps = tuple(
            ClassMap(path, name, number, shares.get(number), known[number]) for path, name, number in entries
        )
        return cls(kind, source, maps, pixel_size, box, iteration, None, base, tuple(notices))


def _describe_map(entry: ClassMap) -> str:
    parts = [entry.name if entry.number is None else f"{entry.number}: {entry.name}"]
    if entry.weight is not None:
        parts.append(f"{100 * entry.weight:.1f} %")
    if entry.particles is not None:
        parts.append(f"{entry.particles} particles")
    if entry.resolution is not None:
        parts.append(f"{entry.resolution:.1f} Å")
    return "  " + ", ".join(parts)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key by which vol_2 comes before vol_10."""
    parts = re.split(r"(\d+)", str(path).lower())
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts]


def is_map(path: Path) -> bool:
    """Tell by its name whether a file is a map or a stack of images."""
    return path.name.lower().endswith(_ENDINGS) and not path.name.startswith(".")


def is_stack(path: Path) -> bool:
    """Tell by its name whether a file is a stack of images."""
    return path.name.lower().removesuffix(".gz").removesuffix(".bz2").endswith(STACK_SUFFIXES)


def maps_in(folder: Path) -> list[Path]:
    """Return the maps of a folder in natural order, without stacks and hidden files."""
    found = (path for path in folder.iterdir() if is_map(path) and not is_stack(path) and path.is_file())
    return sorted(found, key=natural)


def some_of(names: Iterable[str], most: int = 4) -> str:
    """Return the first few names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


@dataclass(frozen=True)
class _Grid:
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float] | None


def check_map(path: Path) -> None:
    """Make sure that a file is a map and as long as its header says; InputError otherwise."""
    _grid(path)


def _grid(path: Path) -> _Grid:
    """Read a map's header, without its data."""
    header = read_header(path)
    try:
        return _Grid(header.shape, header.voxel_size(path))
    except InputError:
        return _Grid(header.shape, None)


def _cube(grid: _Grid) -> tuple[int | None, float | None]:
    """Return box and voxel size, each where it is the same along all axes."""
    sizes = grid.voxel_size
    same = sizes is not None and max(sizes) <= 1.01 * min(sizes)
    return grid.shape[0] if len(set(grid.shape)) == 1 else None, sizes[0] if sizes and same else None


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Name maps by their stems, with the folder's name in front (then a number behind) where stems repeat."""
    stems = [map_stem(path) for path in paths]
    longer = [f"{path.absolute().parent.name}_{stem}" for path, stem in zip(paths, stems, strict=True)]
    names = [b if twice else a for a, b, twice in zip(stems, longer, _repeated(stems), strict=True)]
    again = zip(names, _repeated(names), strict=True)
    return [f"{name}_{i}" if twice else name for i, (name, twice) in enumerate(again, start=1)]


def _repeated(names: Sequence[str]) -> list[bool]:
    """Tell which names occur twice, to file systems that take upper and lower case for the same."""
    counts = Counter(name.lower() for name in names)
    return [counts[name.lower()] > 1 for name in names]


_MAP_ENDINGS = (".mrc", ".map", ".mrc.gz", ".map.gz")


def _pairs(stem: str) -> list[tuple[str, str]]:
    """Return the names (without ending) that the halves of a map called ``stem`` may have."""
    pairs = [(f"{stem}_half1", f"{stem}_half2"), (f"{stem}_half_map_1", f"{stem}_half_map_2")]
    # RELION: run_class001 → run_half1_class001_unfil.
    relion = re.fullmatch(r"(.*run(?:_ct\d+)?(?:_it\d+)?)_(class\d+)", stem)
    if relion:
        pairs.append((f"{relion[1]}_half1_{relion[2]}_unfil", f"{relion[1]}_half2_{relion[2]}_unfil"))
    # cryoSPARC: J12_005_volume_map → J12_005_volume_map_half_A.
    pairs.append((f"{stem}_half_A", f"{stem}_half_B"))
    # RECOVAR: center000 → center000_half1_unfil.
    pairs.append((f"{stem}_half1_unfil", f"{stem}_half2_unfil"))
    # EMDB: emd_1234 → emd_1234_half_map_1, the second pair at the top.
    return pairs


def find_half_maps(path: Path) -> tuple[Path, Path] | None:
    """Return the two half-maps beside a map, or None.

    Parameters
    ----------
    path : Path
        The map. Names tried: ``X_half1``, ``X_half_map_1`` (EMDB), ``X_half_A`` (cryoSPARC) and
        ``run_half1_class001_unfil`` for ``run_class001`` (RELION), each with its partner.
    """
    ending = next((e for e in _MAP_ENDINGS if path.name.lower().endswith(e)), path.suffix)
    stem = path.name[: len(path.name) - len(ending)]
    for first, second in _pairs(stem):
        for end in dict.fromkeys((ending, *_MAP_ENDINGS)):
            found = path.with_name(first + end), path.with_name(second + end)
            if is_file(found[0]) and is_file(found[1]):
                return found
    return None
