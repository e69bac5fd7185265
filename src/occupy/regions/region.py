"""A region: a named set of voxels on one grid, from a model, a selection of its residues, or a mask."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Literal

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.model import AtomicModel
from occupy.volume import Volume

log = logging.getLogger(__name__)

Indices = npt.NDArray[np.intp]
By = Literal["chain", "residue", "entity", "ligand"]
UNITS: tuple[By, ...] = ("chain", "residue", "entity", "ligand")


def _fixed(array: npt.ArrayLike) -> Indices:
    out = np.array(array, dtype=np.intp).reshape(-1)
    out.flags.writeable = False
    return out


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a map.

    Attributes
    ----------
    name : str
        Unique among the regions it is used with.
    kind : str
        ``chain``, ``residue``, ``entity``, ``ligand``, ``selection``, ``mask`` or ``component``.
    voxels : ndarray of int, shape (n,), read-only
        Flat indices into the data of the map (C order), sorted, each once.
    shape : tuple of int
        Shape of the map they index.
    residues : ndarray of int, shape (m,), read-only
        For regions of a model: which of `AtomicModel.residues` it stands for.
    """

    name: str
    kind: str
    voxels: Indices
    shape: tuple[int, int, int]
    residues: Indices = field(default_factory=lambda: _fixed([]))

    def __repr__(self) -> str:
        return f"<Region {self.name!r}: {self.kind} of {len(self.voxels)} voxels>"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", " ".join(str(self.name).split()))
        for name in ("voxels", "residues"):
            object.__setattr__(self, name, _fixed(getattr(self, name)))
        if not self.name:
            raise ValueError("a region needs a name")
        if len(self.voxels) and not 0 <= self.voxels.min() <= self.voxels.max() < np.prod(self.shape):
            raise ValueError(f"region {self.name}: voxels outside of a map of shape {self.shape}")

    @property
    def index(self) -> tuple[Indices, Indices, Indices]:
        """Return the voxels as indices (section, row, column)."""
        z, y, x = np.unravel_index(self.voxels, self.shape)
        return z, y, x


def regions_of_model(
    model: AtomicModel,
    volume: Volume,
    by: By = "chain",
    *,
    selections: Mapping[str, Sequence[str]] | None = None,
    radius: float = 3.0,
) -> tuple[Region, ...]:
    """Return the parts of a model as regions of a map.

    A region is every voxel whose centre lies within ``radius`` of one of its atoms, and the voxel nearest to
    each atom. Its atoms are the Cα and P atoms of its polymers; where it has none (a ligand, a sugar), all
    atoms but hydrogens. Water never counts. Chains and entities leave their ligands out, which may come and
    go by themselves.

    Parameters
    ----------
    model : AtomicModel
        In the frame of the map, as ChimeraX would show the two on top of each other.
    volume : Volume
        Any map on the grid; its values don't matter.
    by : {"chain", "residue", "entity", "ligand"}
        What makes a region.
    selections : mapping, optional
        Name → parts such as ``A``, ``B:1-80`` or ``B:1-80,95``; instead of ``by``.
    radius : float
        Å.

    Returns
    -------
    tuple of Region
        In the order of the model (of the selections). Regions wholly outside the box are left out with a
        warning.

    Raises
    ------
    InputError
        Where most of the model lies outside the box, or there is nothing of the kind.
    """
    if selections is not None:
        groups = {name: _residues_of_selection(model, parts, name) for name, parts in selections.items()}
        kind = "selection"
    else:
        groups, kind = _grouped(model, by), by
    index = index_of(volume, model.xyz)
    _check_inside(model, volume, index)
    voxels = _voxels_near(volume, index, _atoms_of(model, groups.values()), radius)
    regions = [
        Region(name, kind, found, volume.shape, np.asarray(residues))
        for (name, residues), found in zip(groups.items(), voxels, strict=True)
    ]
    outside = [region.name for region in regions if not len(region.voxels)]
    if outside:
        log.warning("outside the box, so left out: %s", ", ".join(outside[:8]) + " …" * (len(outside) > 8))
    return tuple(region for region in regions if len(region.voxels))


def _grouped(model: AtomicModel, by: By) -> dict[str, list[int]]:
    """Return name → residues, in the order of the model."""
    if by not in UNITS:
        raise InputError(f"regions can be made by {', '.join(UNITS)}, not by {by!r}")
    with_polymer = {(r.file, r.chain) for r in model.residues if r.kind == "polymer"}
    groups: dict[str, list[int]] = {}
    for number, residue in enumerate(model.residues):
        if residue.kind == "water" or (by == "ligand" and residue.kind != "ligand"):
            continue
        if by in ("chain", "entity") and residue.kind == "ligand":
            if by == "chain" and (residue.file, residue.chain) in with_polymer:
                continue
            if by == "entity" and with_polymer:
                continue
        chain = model.chain_label(residue) if by != "entity" else ""
        name = {
            "chain": chain,
            "residue": f"{chain}:{residue.label}",
            "ligand": f"{chain}:{residue.name}{residue.label}",
            "entity": f"{model.names[residue.file]}.{residue.entity}"
            if len(model.names) > 1
            else residue.entity,
        }[by]
        groups.setdefault(name, []).append(number)
    if not groups:
        raise InputError(f"{model.name}: no {by} in this model")
    return groups


def _atoms_of(model: AtomicModel, groups: Iterable[Sequence[int]]) -> list[Indices]:
    """Return the atoms that count of each group of residues."""
    order = np.argsort(model.residue, kind="stable")
    ends = np.searchsorted(model.residue[order], np.arange(len(model.residues) + 1))
    out = []
    for residues in groups:
        atoms = np.concatenate([order[ends[r] : ends[r + 1]] for r in residues])
        on_trace = atoms[model.trace[atoms]]
        out.append(on_trace if len(on_trace) else atoms)
    return out


def index_of(volume: Volume, xyz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return where positions lie in a map: the inverse of `Volume.position`.

    Parameters
    ----------
    volume : Volume
        The map.
    xyz : ndarray, shape (n, 3)
        x, y, z in Å.

    Returns
    -------
    ndarray, shape (n, 3)
        Fractional indices (section, row, column).
    """
    first = volume.position((0, 0, 0))
    out = np.empty_like(xyz, dtype=np.float64)
    for position, axis in enumerate(volume.frame.axes):  # columns, rows, sections
        along = 2 - position
        out[:, along] = (xyz[:, axis - 1] - first[axis - 1]) / volume.voxel_size[along]
    return out


def _voxels_near(
    volume: Volume, index: npt.NDArray[np.float64], groups: Sequence[Indices], radius: float
) -> list[Indices]:
    """Return, for every group of atoms, the voxels within a radius of any of them or nearest to one.

    Parameters
    ----------
    volume : Volume
        The grid.
    index : ndarray, shape (atoms, 3)
        Fractional indices of all atoms.
    groups : sequence of ndarray of int
        Atoms of each group.
    radius : float
        Å.
    """
    size = np.array(volume.voxel_size)
    shape = np.array(volume.shape)
    reach = [ceil(radius / a + 0.5) for a in size]
    steps = [np.arange(-k, k + 1) for k in reach]
    ball = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 3)
    # What is farther than this from a voxel's centre is farther than the radius from all its points.
    ball = ball[((np.maximum(np.abs(ball) - 0.5, 0) * size) ** 2).sum(1) <= radius**2]
    out = []
    for atoms in groups:
        found = [np.empty(0, dtype=np.intp)]
        # Two million candidates at a time: some 100 MB.
        for part in np.array_split(atoms, max(1, ceil(len(atoms) * len(ball) / 2e6))):
            near = np.rint(index[part]).astype(np.intp)
            voxels = near[:, None] + ball[None]
            distance = (((voxels - index[part][:, None]) * size) ** 2).sum(-1)
            kept = (distance <= radius**2) | (ball == 0).all(1)[None]
            kept &= ((voxels >= 0) & (voxels < shape)).all(-1)
            z, y, x = voxels[kept].T
            found.append((z * shape[1] + y) * shape[2] + x)
        out.append(np.unique(np.concatenate(found)))
    return out


def _check_inside(model: AtomicModel, volume: Volume, index: npt.NDArray[np.float64]) -> None:
    """Raise InputError where most atoms lie outside the box, saying how far and in which frame."""
    share = _share_inside(volume, index)
    if share >= 0.5:
        return
    corners = volume.position(np.stack([np.full(3, -0.5), np.array(volume.shape) - 0.5]))
    low, high = corners.min(0), corners.max(0)
    middle = np.median(model.xyz, axis=0)
    apart = float(np.linalg.norm(np.maximum(np.maximum(low - middle, middle - high), 0)))
    far = f"its middle is {apart:.0f} Å away from it" if apart > 0 else "it is larger than the box"
    boxed = ", ".join(f"{n} {a:.0f} to {b:.0f}" for n, a, b in zip("xyz", low, high, strict=True))
    source = "ORIGIN" if any(volume.frame.origin) else "NSTART" if any(volume.frame.nstart) else "corner at 0"
    unused = "".join(f" ({notice.text})" for notice in volume.notices if notice.code == "origin")
    raise InputError(
        f"{model.name}: {1 - share:.0%} of its atoms lie outside the box of {volume.name}: {far} (middle of "
        f"the model {_point(middle)} Å; box {boxed} Å by the map's {source}); {_advice(model, volume)}"
        f"{unused}"
    )


def _share_inside(volume: Volume, index: npt.NDArray[np.float64]) -> float:
    inside = ((index >= -0.5) & (index < np.array(volume.shape) - 0.5)).all(1)
    return float(inside.mean())


def _point(xyz: npt.NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.0f}" for value in xyz)


def _advice(model: AtomicModel, volume: Volume) -> str:
    """Say which shift of the frame would put the model into the box, if one of the usual ones does."""
    first = volume.position((0, 0, 0))
    cell = np.empty(3)
    for position, axis in enumerate(volume.frame.axes):
        cell[axis - 1] = volume.shape[2 - position] * volume.voxel_size[2 - position]
    by_start = replace(volume, frame=replace(volume.frame, origin=(0.0, 0.0, 0.0))).position((0, 0, 0))
    for shift, text in (
        (first, "it would lie inside if the map began at 0, 0, 0"),
        (first - by_start, "it would lie inside if the map's NSTART counted and not its ORIGIN"),
        (first + cell / 2, "it would lie inside if 0, 0, 0 was the middle of the box"),
    ):
        if _share_inside(volume, index_of(volume, model.xyz + shift)) > 0.9:
            return f"{text}: shift the model by {_point(shift)} Å, or correct the map's header"
    return "fit the model into the map first (ChimeraX: fitmap, then save it relative to the map)"


def regions_of_masks(masks: Iterable[Volume], volume: Volume) -> tuple[Region, ...]:
    """Return masks as regions: voxels whose weight is above 0.5.

    Parameters
    ----------
    masks : iterable of Volume
        On the grid of the map, soft or not; taken one at a time. Their names name the regions.
    volume : Volume
        Any map on the grid.

    Raises
    ------
    InputError
        Where a mask lies on another grid or is empty.
    """
    regions = tuple(_masked(masks, volume))
    names = [region.name for region in regions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two masks are called {twice}; rename one")
    if not regions:
        raise InputError("no masks given")
    return regions


def _masked(masks: Iterable[Volume], volume: Volume) -> Iterator[Region]:
    for mask in masks:
        check_same_grid(mask, volume)
        inside = np.flatnonzero(mask.data > 0.5)
        if not len(inside):
            top = float(mask.data.max())
            raise InputError(f"the mask {mask.name} is empty: no weight above 0.5 (its largest is {top:.3g})")
        yield Region(mask.name, "mask", inside, volume.shape)


def check_same_grid(mask: Volume, volume: Volume) -> None:
    """Raise InputError, saying how, where a mask lies on another grid than a map."""
    where = f"the mask {mask.name} lies on another grid than {volume.name}"
    advice = "resample it onto the map first (ChimeraX: volume resample … onGrid …)"
    if mask.shape != volume.shape:
        raise InputError(f"{where}: {_box(mask)} voxels, not {_box(volume)}; {advice}")
    if mask.frame.axes != volume.frame.axes:
        axes, others = mask.frame.axes, volume.frame.axes
        raise InputError(f"{where}: its axes are in the order {axes}, not {others}; {advice}")
    if not mask.same_grid(volume):
        size, other = mask.voxel_size[::-1], volume.voxel_size[::-1]
        raise InputError(f"{where}: {size[0]:.4g} Å per voxel, not {other[0]:.4g}; {advice}")
    shift = mask.position((0, 0, 0)) - volume.position((0, 0, 0))
    if np.abs(shift).max() > 0.5 * min(volume.voxel_size):
        log.warning(
            "the mask %s begins %s Å from the map %s by its header; it is taken voxel for voxel",
            mask.name, _point(shift), volume.name,
        )  # fmt: skip


def _box(volume: Volume) -> str:
    return " x ".join(str(n) for n in volume.shape[::-1])


def residue_values(
    model: AtomicModel, regions: Sequence[Region], values: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return the value of every residue: that of the smallest region it belongs to.

    Parameters
    ----------
    model : AtomicModel
        The model the regions were made of.
    regions : sequence of Region
        R regions.
    values : array_like, shape (R,)
        One value per region.

    Returns
    -------
    ndarray, shape (residues,)
        NaN for residues in no region.
    """
    out = np.full(len(model.residues), np.nan)
    numbers = np.asarray(values, dtype=np.float64)
    for row in sorted(range(len(regions)), key=lambda i: -len(regions[i].residues)):
        out[regions[row].residues] = numbers[row]
    return out


_RANGE = re.compile(r"(-?\d+)(?:-(-?\d+))?")


def _residues_of_selection(model: AtomicModel, parts: Sequence[str], name: str) -> list[int]:
    """Return the residues that parts such as ``A`` or ``B:1-80,95`` stand for.

    Parameters
    ----------
    model : AtomicModel
        The model.
    parts : sequence of str
        Chain, or chain, colon and residue numbers or ranges (both ends included) with commas between. Where
        several files have chains of the same name, a chain is ``file.A``.
    name : str
        Of the selection, for messages.

    Returns
    -------
    list of int
        Sorted, each once, without water; ligands of a chain only where numbers name them.

    Raises
    ------
    InputError
        Where a chain or all residues of a part do not exist.
    """
    chains = model.residues_by_chain
    found: set[int] = set()
    for part in parts:
        found.update(_residues_of_part(model, chains, part.strip(), name))
    if not found:
        raise InputError(f"selection {name}: it names no residues")
    return sorted(found)


def _residues_of_part(model: AtomicModel, chains: dict[str, list[int]], part: str, name: str) -> list[int]:
    if part in chains:
        whole = chains[part]
        polymer = [i for i in whole if model.residues[i].kind == "polymer"]
        return polymer or whole
    chain, colon, ranges = part.rpartition(":")
    if not colon or chain not in chains:
        known = ", ".join(list(chains)[:12]) + " …" * (len(chains) > 12)
        wanted = chain if colon else part
        raise InputError(f"selection {name}: {model.name} has no chain {wanted!r} (it has {known})")
    spans = [_span(text.strip(), part, name) for text in ranges.split(",")]
    found = [i for i in chains[chain] if any(low <= model.residues[i].number <= high for low, high in spans)]
    if not found:
        numbers = [model.residues[i].number for i in chains[chain]]
        raise InputError(
            f"selection {name}: no residues {ranges} in chain {chain} "
            f"(it has {min(numbers)} to {max(numbers)})"
        )
    return found


def _span(text: str, part: str, name: str) -> tuple[int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InputError(
            f"selection {name}: {part!r} is not understood; write a chain (A) or residues of one (A:1-80,95)"
        )
    low = int(match[1])
    high = low if match[2] is None else int(match[2])
    if high < low:
        raise InputError(f"selection {name}: the range {text} in {part!r} runs backwards")
    return low, high
