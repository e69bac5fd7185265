"""Atomic models: the bundled one, models placed in a box, their clean maps, and maps read at chains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from math import ceil, isfinite
from operator import index
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occupy.requests import Imaging
from occupy.simulation.potential import potential_of

if TYPE_CHECKING:
    import gemmi


PADDING = 0.3
"""The least share of the default box's side that the model does not reach."""


def demo_structure() -> gemmi.Structure:
    """Read the model that ships with the package: PDB entry 7PBL, the RuvAB motor on DNA.

    Returns
    -------
    gemmi.Structure
        Nine chains, heavy atoms of protein and DNA, in the entry's own frame (see data/README.md).
    """
    import gzip

    import gemmi

    packed = resources.files("occupy").joinpath("data/demo_model.cif.gz").read_bytes()
    block = gemmi.cif.read_string(gzip.decompress(packed).decode()).sole_block()
    structure = gemmi.make_structure_from_block(block)
    structure.setup_entities()
    return structure


def demo_occupancies(structure: gemmi.Structure) -> dict[str, float]:
    """Choose occupancies as if the complex were assembled from the core to its outermost chain.

    Parameters
    ----------
    structure : gemmi.Structure
        Any structure; chains without CA or P atoms are not counted.

    Returns
    -------
    dict of str to float
        The chain whose centre is farthest from the complex's has 0.15, its nearest neighbours 0.3, 0.5 and
        0.75 in the order of distance, and all others, at least half of the chains, 1.
    """
    check_structure(structure)
    centres = {name: points.mean(axis=0) for name, points in marker_points(structure).items()}
    if not centres:
        raise ValueError(f"structure {structure.name!r} has no chain with CA or P atoms")
    middle = np.mean(list(centres.values()), axis=0)
    outermost = max(centres, key=lambda name: float(np.linalg.norm(centres[name] - middle)))
    inwards = sorted(centres, key=lambda name: float(np.linalg.norm(centres[name] - centres[outermost])))
    partial = dict(zip(inwards[: len(centres) // 2], (0.15, 0.3, 0.5, 0.75), strict=False))
    return {name: partial.get(name, 1.0) for name in centres}


def marker_points(structure: gemmi.Structure) -> dict[str, NDArray[np.float64]]:
    """Return the CA (not calcium) and P positions of each chain that has any: (n, 3), xyz, in Å."""
    points: dict[str, list[list[float]]] = {}
    for site in structure[0].all():
        if (site.atom.name, site.atom.element.name) in {("CA", "C"), ("P", "P")}:
            points.setdefault(site.chain.name, []).append(site.atom.pos.tolist())
    return {name: np.array(found) for name, found in points.items()}


def heavy_atoms(structure: gemmi.Structure) -> gemmi.Structure:
    """Return a copy of the first model without hydrogens and alternative conformations."""
    heavy = structure.clone()
    while len(heavy) > 1:
        del heavy[-1]
    heavy.remove_hydrogens()
    # Where nothing has alternatives, atoms of one name are different atoms: some models name them by element.
    if any(site.atom.has_altloc() for site in heavy[0].all()):
        heavy.remove_alternative_conformations()
    return heavy


def _box_size(structure: gemmi.Structure, voxel_size: float, box: int | None) -> int:
    """Return the box's side in voxels: the one asked for if the model fits, or the default."""
    bounds = structure.calculate_box()
    extent = max((bounds.maximum - bounds.minimum).tolist())
    if box is None:
        return _even_fast_size(ceil(extent / (1 - PADDING) / voxel_size))
    if index(box) < 2 or box % 2:
        raise ValueError(f"box must be an even number of voxels, not {box!r}")
    if box * voxel_size <= extent:
        raise ValueError(f"box {box!r} of {voxel_size!r} Å voxels is smaller than the model ({extent:.0f} Å)")
    return index(box)


def _even_fast_size(least: int) -> int:
    """Return the smallest even number ≥ `least` whose prime factors are 2, 3 and 5 (fast to transform)."""
    size = max(least + least % 2, 2)
    while 30**20 % size:  # any other prime factor, and only that, leaves a remainder
        size += 2
    return size


def place(structure: gemmi.Structure, side: float) -> gemmi.Structure:
    """Return a copy with its bounding box centred in a cubic P1 cell of `side` Å."""
    import gemmi

    placed = structure.clone()
    bounds = placed.calculate_box()
    shift = gemmi.Position(side / 2, side / 2, side / 2) - (bounds.minimum + bounds.maximum) / 2
    placed[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(), gemmi.Vec3(*shift.tolist())))
    placed.cell = gemmi.UnitCell(side, side, side, 90, 90, 90)
    placed.spacegroup_hm = "P 1"
    return placed


def _set_atoms(chain: gemmi.Chain, occupancy: float, b_factor: float | None = None) -> None:
    """Set occupancy and, where given, the isotropic B-factor (Å²) of a chain's atoms, in place."""
    import gemmi

    isotropic = gemmi.SMat33f(0, 0, 0, 0, 0, 0)
    for residue in chain:
        for atom in residue:
            atom.occ = occupancy
            if b_factor is not None:
                atom.b_iso = b_factor
                atom.aniso = isotropic


def chain_values(
    data: ArrayLike, voxel_size: float, structure: gemmi.Structure, radius: float = 3.0
) -> dict[str, float]:
    """Read a map at the backbone of each chain.

    Parameters
    ----------
    data : (nz, ny, nx) array
        Any map: density, local scale, confidence.
    voxel_size : float
        Å.
    structure : gemmi.Structure
        In the map's frame (see `Simulation.structure`).
    radius : float
        Å. A voxel counts where its centre is within the radius, ends included, of a CA or P atom, and
        always where it is an atom's nearest. Each counts once per chain.

    Returns
    -------
    dict of str to float
        Median over the voxels of each chain; chains without CA or P atoms are left out.

    Raises
    ------
    ValueError
        If the map is not three-dimensional, a number is not positive, or a chain lies outside the map.
    """
    check_structure(structure)
    values = np.asarray(data)
    if values.ndim != 3:
        raise ValueError(f"data must have three axes, not shape {values.shape}")
    for name, number in (("voxel_size", voxel_size), ("radius", radius)):
        if not (isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a positive number, not {number!r}")
    found = {}
    for name, points in marker_points(structure).items():
        near = voxels_near(points[:, ::-1] / voxel_size, radius / voxel_size, values.shape)
        if near.size == 0:
            raise ValueError(f"chain {name!r} lies outside the map of shape {values.shape} at {voxel_size} Å")
        found[name] = float(np.median(values.reshape(-1)[near]))
    return found


def voxels_near(points_zyx: NDArray[np.float64], radius: float, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return flat indices, sorted and unique, of the voxels within `radius` of a point or nearest to one.

    Parameters
    ----------
    points_zyx : (n, 3) array
        In voxels.
    radius : float
        In voxels.
    shape : (nz, ny, nx)
        Of the map; voxels outside it are left out.
    """
    reach = ceil(radius + 0.5)
    offsets = np.indices((2 * reach + 1,) * 3).reshape(3, -1).T - reach
    near = np.zeros(shape, dtype=bool)
    # One offset at a time: memory stays at a few numbers per point, however fine the map.
    nearest = np.rint(points_zyx).astype(np.intp)
    remainder = nearest - points_zyx
    for offset in offsets:
        # The nearest voxel always counts, so that no point is lost on a map coarser than the radius.
        within = (((remainder + offset) ** 2).sum(axis=1) <= radius**2) | (not offset.any())
        voxels = nearest[within] + offset
        voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
        near[tuple(voxels.T)] = True
    return np.flatnonzero(near)


def check_structure(structure: gemmi.Structure) -> None:
    """Raise TypeError or ValueError unless this is a structure with atoms."""
    import gemmi

    if not isinstance(structure, gemmi.Structure):
        raise TypeError(f"structure must be a gemmi.Structure, not {type(structure).__name__}")
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise ValueError(f"structure {structure.name!r} has no atoms")


def chain_names(structure: gemmi.Structure) -> list[str]:
    """Return the first model's chain names, each once, in their order."""
    return list(dict.fromkeys(chain.name for chain in structure[0]))


def per_chain(
    what: str, given: Mapping[str, float] | None, chains: Iterable[str], *, default: float, highest: float
) -> dict[str, float]:
    """Return a finite number in [0, `highest`] for every chain, or raise ValueError."""
    numbers = dict.fromkeys(chains, default)
    for name, number in (given or {}).items():
        if name not in numbers:
            raise ValueError(f"{what} names chain {name!r}; the structure has {', '.join(numbers)}")
        if not (isfinite(number) and 0 <= number <= highest):
            raise ValueError(f"{what} of chain {name!r} must be within 0 and {highest:g}, not {number!r}")
        numbers[name] = float(number)
    return numbers


@dataclass(frozen=True)
class Scene:
    """A fully occupied model in the map's frame.

    Attributes
    ----------
    structure : gemmi.Structure
        In a cubic cell, all occupancies 1, with the B-factors of the simulation.
    size : int
        Voxels along each side of the box.
    voxel_size, resolution : float
        Å.
    b_factors : mapping of str to float
        Å² that a chain has on top of the others.
    """

    structure: gemmi.Structure
    size: int
    voxel_size: float
    resolution: float
    b_factors: Mapping[str, float]

    @property
    def chains(self) -> list[str]:
        """Names of the chains, in their order."""
        return chain_names(self.structure)

    def atoms_zyx(self) -> NDArray[np.float64]:
        """Return the atoms' positions in voxels: (n, 3)."""
        atoms = np.array([site.atom.pos.tolist() for site in self.structure[0].all()])
        return np.asarray(atoms[:, ::-1] / self.voxel_size)

    def clean_map(self, occupancies: Mapping[str, float]) -> NDArray[np.float32]:
        """Return the map without noise in volts: (size, size, size)."""
        structure = self.with_occupancies(occupancies)
        return potential_of(structure, self.size, self.voxel_size, self.resolution)

    def clean_maps(self, columns: Sequence[Mapping[str, float]]) -> list[NDArray[np.float32]]:
        """Return the map without noise for each of several sets of occupancies.

        Maps are linear in occupancy, so chains that rise and fall together are computed once.
        """
        groups: dict[tuple[float, ...], list[str]] = {}
        for name in self.chains:
            groups.setdefault(tuple(column[name] for column in columns), []).append(name)
        if len(groups) > len(columns):
            return [self.clean_map(column) for column in columns]
        maps = [np.zeros((self.size,) * 3, dtype=np.float32) for _ in columns]
        for values, names in groups.items():
            part = self.clean_map({name: float(name in names) for name in self.chains})
            for whole, value in zip(maps, values, strict=True):
                whole += np.float32(value) * part
        return maps

    def with_occupancies(self, occupancies: Mapping[str, float]) -> gemmi.Structure:
        """Return the scene's model with other occupancies."""
        structure = self.structure.clone()
        for chain in structure[0]:
            _set_atoms(chain, occupancies[chain.name])
        return structure

    def noise_sigma(self, full: NDArray[np.float32], signal_to_noise: float) -> np.float32:
        """Return the noise's standard deviation in volts (see `signal_to_noise` of `simulate`).

        Parameters
        ----------
        full : (size, size, size) array
            Clean map of the fully occupied model.
        signal_to_noise : float
            Ratio of variances; infinity for no noise.
        """
        if np.isinf(signal_to_noise):
            return np.float32(0)
        # What lies within 3 Å of any atom is molecule.
        inside = voxels_near(self.atoms_zyx(), 3.0 / self.voxel_size, full.shape)
        return np.float32(np.sqrt(full.reshape(-1)[inside].var(dtype=np.float64) / signal_to_noise))

    @classmethod
    def of(cls, structure: gemmi.Structure, imaging: Imaging, b_factors: Mapping[str, float] | None) -> Scene:
        """Place a model; its atoms have B-factors 4 d² + those of their chain + those of their distance."""
        check_structure(structure)
        extra = per_chain("b_factors", b_factors, chain_names(structure), default=0.0, highest=np.inf)
        voxel_size, resolution = float(imaging.voxel_size), float(imaging.resolution)
        heavy = heavy_atoms(structure)
        size = _box_size(heavy, voxel_size, imaging.box)
        placed = place(heavy, size * voxel_size)
        for chain in placed[0]:
            _set_atoms(chain, 1.0, 4 * resolution**2 + extra[chain.name])
        if imaging.rim_b_factor:
            _add_rim(placed, imaging.rim_b_factor)
        return cls(placed, size, voxel_size, resolution, MappingProxyType(extra))


def _add_rim(placed: gemmi.Structure, rim_b_factor: float) -> None:
    """Add a B-factor that grows with the square of the distance from the atoms' mean, in place."""
    atoms = [site.atom for site in placed[0].all()]
    points = np.array([atom.pos.tolist() for atom in atoms])
    squared = ((points - points.mean(axis=0)) ** 2).sum(axis=1)
    for atom, share in zip(atoms, squared / max(float(squared.max()), 1e-9), strict=True):
        atom.b_iso += rim_b_factor * float(share)
