"""Another way from a model to a map than the one that is fitted, with the errors that real maps have.

Differences to `occupy.simulation`: B-factors that vary threefold along each chain, flexible chains as means
of five conformers, ice as a flat envelope by probe radius of 1.1 times the density, form factors with the
hydrogens that models leave out, and blur that grows from the middle as misalignment makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_filter1d

from occupy.simulation.models import heavy_atoms, marker_points, place, voxels_near
from occupy.simulation.potential import coloured_noise, frequency_of, soft_low_pass

WITH_HYDROGENS: Mapping[str, float] = {"C": 1.22, "N": 1.18, "O": 1.06}
"""Scattering of an atom with the hydrogens it has on average in protein, relative to the bare atom."""
ICE = 1.1 * 0.0945
"""Scattering of ice per Å³, as `occupy.simulation.potential.ICE`, a tenth too dense."""
PROBE = 1.4
VAN_DER_WAALS = 1.8
CONFORMERS = 5


@dataclass(frozen=True)
class OtherForward:
    """Settings of the other forward model.

    Attributes
    ----------
    voxel_size, resolution : float
        Å.
    box : int
        Voxels.
    signal_to_noise : float
        As in `occupy.simulate`.
    rim : float
        Å² on top at the outermost atom, by misalignment.
    noise_colour : float
        B-factor of the noise in Å².
    flexible : float
        Share of the chains that are means of conformers.
    """

    voxel_size: float
    resolution: float
    box: int
    signal_to_noise: float
    rim: float = 60.0
    noise_colour: float = 200.0
    flexible: float = 0.5


def _along(count: int, rng: np.random.Generator, width: float = 4.0) -> NDArray[np.float64]:
    """Return a random curve along a chain, of root mean square 1."""
    curve = gaussian_filter1d(rng.normal(size=count), width, mode="reflect")
    return np.asarray(curve / np.sqrt(np.mean(curve**2)))


def _vary(
    chain: gemmi.Chain, base: float, middle: gemmi.Position, reach: float, rim: float, seed: int
) -> None:
    """Set B-factors that vary threefold along a chain and grow to the rim, in place."""
    rng = np.random.default_rng((seed, 1))
    factor = 3 ** (0.5 * np.clip(_along(len(chain), rng), -1, 1))
    for residue, f in zip(chain, factor, strict=True):
        for atom in residue:
            far = (atom.pos - middle).length() / reach
            atom.occ = WITH_HYDROGENS.get(atom.element.name, 1.0)
            atom.b_iso = base + 60 * (float(f) - 1 / 3**0.5) + rim * far * far
            atom.aniso = gemmi.SMat33f(0, 0, 0, 0, 0, 0)


def _conformers(chain: gemmi.Chain, amplitude: float, seed: int) -> list[gemmi.Chain]:
    """Return copies displaced by smooth random fields of this amplitude in Å, around the chain as it is."""
    rng = np.random.default_rng((seed, 2))
    fields = np.array(
        [[_along(len(chain), rng, 8.0) for _ in range(3)] for _ in range(CONFORMERS)]
    )  # conformer, axis, residue
    fields = (fields - fields.mean(axis=0)) * amplitude / 3**0.5
    copies = [chain.clone() for _ in range(CONFORMERS)]
    for copy, field in zip(copies, fields, strict=True):
        for residue, shift in zip(copy, field.T, strict=True):
            for atom in residue:
                atom.pos += gemmi.Position(*shift.tolist())
    return copies


def _density(chains: list[gemmi.Chain], scale: float, cell: gemmi.UnitCell, size: int) -> NDArray[np.float32]:
    calculator = gemmi.DensityCalculatorE()
    calculator.grid.unit_cell = cell
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(size, size, size)
    for chain in chains:
        for residue in chain:
            for atom in residue:
                calculator.add_atom_density_to_grid(atom)
    return np.asarray(calculator.grid.array.transpose(2, 1, 0) * np.float32(scale), dtype=np.float32)


def _displaced(
    structure: gemmi.Structure, occupancies: Mapping[str, float], size: int, step: float
) -> NDArray[np.float32]:
    """Return the displaced ice: inside a probe's surface, at the occupancy of the nearest chain."""
    nearest = np.zeros((size,) * 3, dtype=np.float32)
    seeds = np.ones((size,) * 3, dtype=bool)
    for chain in structure[0]:
        points = np.array([a.pos.tolist() for r in chain for a in r])
        at = tuple(np.rint(points[:, ::-1] / step).astype(int).T % size)
        seeds[at] = False
        nearest[at] = occupancies[chain.name]
    far, index = distance_transform_edt(seeds, return_indices=True)
    swollen = far * step < VAN_DER_WAALS + PROBE
    envelope = distance_transform_edt(swollen) * step > PROBE
    return np.asarray(ICE * envelope * nearest[tuple(index)], dtype=np.float32)


def simulate_otherwise(
    structure: gemmi.Structure, occupancies: Mapping[str, float], asked: OtherForward, seed: int
) -> tuple[NDArray[np.float32], gemmi.Structure]:
    """Return a map with noise, and the model in its frame as a user has it (one conformer)."""
    side = asked.box * asked.voxel_size
    placed = place(heavy_atoms(structure), side)
    finer = max(1, int(np.ceil(3.5 * asked.voxel_size / asked.resolution)))
    size = asked.box * finer
    atoms = np.array([s.atom.pos.tolist() for s in placed[0].all()])
    middle = gemmi.Position(*atoms.mean(axis=0).tolist())
    reach = float(np.linalg.norm(atoms - atoms.mean(axis=0), axis=1).max())
    fine = np.zeros((size,) * 3, dtype=np.float32)
    everything = np.zeros((size,) * 3, dtype=np.float32)
    rng = np.random.default_rng((seed, 3))
    for number, chain in enumerate(placed[0]):
        copies = [chain.clone()]
        if rng.random() < asked.flexible:
            amplitude = float(rng.uniform(0.5, 2.0))
            copies = _conformers(chain, amplitude, seed * 1000 + number)
        for copy in copies:
            _vary(copy, 3 * asked.resolution**2, middle, reach, asked.rim, seed * 1000 + number)
        part = _density(copies, 1 / len(copies), placed.cell, size)
        fine += np.float32(occupancies[chain.name]) * part
        everything += part
    step = side / size
    fine -= gaussian_filter(_displaced(placed, occupancies, size, step), 1.0 / step)
    everything -= gaussian_filter(_displaced(placed, dict.fromkeys(occupancies, 1.0), size, step), 1.0 / step)
    clean, full = (_band_limited(x, asked, finer) for x in (fine, everything))
    inside = voxels_near(atoms[:, ::-1] / asked.voxel_size, 3.0 / asked.voxel_size, clean.shape)
    sigma = np.sqrt(full.reshape(-1)[inside].var(dtype=np.float64) / asked.signal_to_noise)
    noise = coloured_noise((asked.box,) * 3, asked.voxel_size, asked.noise_colour, (seed, 4))
    return clean + np.float32(sigma) * noise, placed


def _band_limited(fine: NDArray[np.float32], asked: OtherForward, finer: int) -> NDArray[np.float32]:
    fourier = np.fft.rfftn(fine)
    kept = np.rint(np.fft.fftfreq(asked.box, 1 / asked.box)).astype(int) % len(fine)
    fourier = fourier[np.ix_(kept, kept, np.arange(asked.box // 2 + 1))] / finer**3
    fourier *= soft_low_pass(frequency_of(asked.box, asked.voxel_size), asked.resolution)
    out = np.fft.irfftn(fourier, s=(asked.box,) * 3, axes=(0, 1, 2))
    return np.asarray(out, dtype=np.float32)


def polymer_chains(structure: gemmi.Structure) -> list[str]:
    """Return the chains with CA or P atoms: those that are scored."""
    return list(marker_points(structure))
