"""A model placed in a box with its B-factors: what all maps of one simulation share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from occupy.requests import Imaging
from occupy.simulation.models import (
    box_size,
    chain_names,
    check_structure,
    heavy_atoms,
    per_chain,
    place,
    set_atoms,
    voxels_near,
)
from occupy.simulation.potential import potential_of

if TYPE_CHECKING:
    import gemmi


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


def make_scene(structure: gemmi.Structure, imaging: Imaging, b_factors: Mapping[str, float] | None) -> Scene:
    """Place a model and give its atoms the B-factors 4 d² + those of its chain + those of its distance."""
    check_structure(structure)
    extra = per_chain("b_factors", b_factors, chain_names(structure), default=0.0, highest=np.inf)
    voxel_size, resolution = float(imaging.voxel_size), float(imaging.resolution)
    heavy = heavy_atoms(structure)
    size = box_size(heavy, voxel_size, imaging.box)
    placed = place(heavy, size * voxel_size)
    for chain in placed[0]:
        set_atoms(chain, 1.0, 4 * resolution**2 + extra[chain.name])
    if imaging.rim_b_factor:
        _add_rim(placed, imaging.rim_b_factor)
    return Scene(placed, size, voxel_size, resolution, MappingProxyType(extra))


def _add_rim(placed: gemmi.Structure, rim_b_factor: float) -> None:
    """Add a B-factor that grows with the square of the distance from the atoms' mean, in place."""
    atoms = [site.atom for site in placed[0].all()]
    points = np.array([atom.pos.tolist() for atom in atoms])
    squared = ((points - points.mean(axis=0)) ** 2).sum(axis=1)
    for atom, share in zip(atoms, squared / max(float(squared.max()), 1e-9), strict=True):
        atom.b_iso += rim_b_factor * float(share)


def with_occupancies(scene: Scene, occupancies: Mapping[str, float]) -> gemmi.Structure:
    """Return the scene's model with other occupancies."""
    structure = scene.structure.clone()
    for chain in structure[0]:
        set_atoms(chain, occupancies[chain.name])
    return structure


def clean_map(scene: Scene, occupancies: Mapping[str, float]) -> NDArray[np.float32]:
    """Return the map without noise in volts: (size, size, size)."""
    structure = with_occupancies(scene, occupancies)
    return potential_of(structure, scene.size, scene.voxel_size, scene.resolution)


def clean_maps(scene: Scene, columns: Sequence[Mapping[str, float]]) -> list[NDArray[np.float32]]:
    """Return the map without noise for each of several sets of occupancies.

    Maps are linear in occupancy, so chains that rise and fall together are computed once.
    """
    groups: dict[tuple[float, ...], list[str]] = {}
    for name in scene.chains:
        groups.setdefault(tuple(column[name] for column in columns), []).append(name)
    if len(groups) > len(columns):
        return [clean_map(scene, column) for column in columns]
    maps = [np.zeros((scene.size,) * 3, dtype=np.float32) for _ in columns]
    for values, names in groups.items():
        part = clean_map(scene, {name: float(name in names) for name in scene.chains})
        for whole, value in zip(maps, values, strict=True):
            whole += np.float32(value) * part
    return maps


def noise_sigma(scene: Scene, full: NDArray[np.float32], signal_to_noise: float) -> np.float32:
    """Return the noise's standard deviation in volts (see `signal_to_noise` of `simulate`).

    Parameters
    ----------
    scene : Scene
        Its atoms say where the molecule is.
    full : (size, size, size) array
        Clean map of the fully occupied model.
    signal_to_noise : float
        Ratio of variances; infinity for no noise.
    """
    if np.isinf(signal_to_noise):
        return np.float32(0)
    # What lies within 3 Å of any atom is molecule.
    inside = voxels_near(scene.atoms_zyx(), 3.0 / scene.voxel_size, full.shape)
    return np.float32(np.sqrt(full.reshape(-1)[inside].var(dtype=np.float64) / signal_to_noise))
