"""What maps are made of: the potential of a model, or its parts, less that of ice; and coloured noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, pi
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

if TYPE_CHECKING:
    import gemmi


VOLT = 47.878
"""h²/(2π m e) in V·Å²: turns a density of electron scattering length (Å per Å³) into a potential in volts."""

ICE = 3.04 * 0.0311
"""Scattering length density of vitreous ice in Å⁻²: f(0) of a water molecule (O 1.98 + 2 H 0.53 Å) times
0.0311 molecules per Å³ (0.93 g/cm³); 4.5 V. By the same free-atom factors protein has 0.168 Å⁻² (22.5 Å per
mean residue of 110 Da at 0.73 cm³/g) or 8.0 V, so the ice it displaces takes away 56 % of its potential."""

HEAVY_SHARE = 0.82
"""The heavy atoms' share of f(0) in protein. The hydrogens are left out (most models have none), so the ice
is reduced alike to keep its ratio to protein; all of it, against heavy atoms only, would take 40 % of the
contrast."""

ATOM_VOLUME = 17.2
"""Volume in Å³ that one heavy atom displaces: 134 Å³ per mean residue of 7.8 heavy atoms. DNA and RNA have
14.5; they are not told apart here, which makes their contrast a sixth too small."""

ATOM_VOLUME_B = 4 * pi * ATOM_VOLUME ** (2 / 3)
"""B-factor (84 Å²) of the Gaussian exp(−π r²/V^⅔) by which an atom displaces solvent (Fraser, MacRae &
Suzuki, J. Appl. Cryst. 11, 693, 1978). Where atoms tile their volume the sum is flat, and its edge is soft:
a smoothed solvent mask, but one that is linear in occupancy."""

_SOFT_EDGE = 0.15
"""The low-pass falls from 1 to 0, as a raised cosine, over this last fraction of the band."""


def potential_of(
    placed: gemmi.Structure, size: int, voxel_size: float, resolution: float
) -> NDArray[np.float32]:
    """Return the model's potential relative to ice in volts, band-limited at `resolution`.

    Parameters
    ----------
    placed : gemmi.Structure
        With final occupancies and B-factors, in a cubic cell.
    size : int
        Voxels along each side of the result.
    voxel_size, resolution : float
        Å.

    Returns
    -------
    (size, size, size) float32 array
    """
    return _potential((site.atom for site in placed[0].all()), placed.cell, size, voxel_size, resolution)


def _potential(
    atoms: Iterable[gemmi.Atom], cell: gemmi.UnitCell, size: int, voxel_size: float, resolution: float
) -> NDArray[np.float32]:
    # With voxels of a quarter of the resolution d, what aliases into the band lies beyond 3/d, where atoms of
    # B = 4 d² have fallen to exp(−9).
    finer = max(1, ceil(4 * voxel_size / resolution - 1e-6))
    fine_zyx = _scattering_density(atoms, cell, size * finer)
    fourier = _crop_fourier(np.fft.rfftn(fine_zyx), size) / np.float32(finer**3)
    fourier *= soft_low_pass(frequency_of(size, voxel_size), resolution)
    potential = np.fft.irfftn(fourier, s=(size,) * 3, axes=(0, 1, 2))
    return np.asarray(VOLT * potential, dtype=np.float32)


def _scattering_density(atoms: Iterable[gemmi.Atom], cell: gemmi.UnitCell, size: int) -> NDArray[np.float32]:
    """Return the scattering length density less that of the displaced ice in Å⁻²: (size, size, size), zyx."""
    import gemmi

    calculator = gemmi.DensityCalculatorE()
    calculator.grid.unit_cell = cell
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(size, size, size)
    displaced = -ICE * HEAVY_SHARE * ATOM_VOLUME
    for atom in atoms:
        if atom.occ == 0:
            continue
        calculator.add_atom_density_to_grid(atom)
        b_factor = atom.b_iso
        atom.b_iso = b_factor + ATOM_VOLUME_B
        calculator.add_c_contribution_to_grid(atom, displaced)
        atom.b_iso = b_factor
    return np.ascontiguousarray(calculator.grid.array.transpose(2, 1, 0), dtype=np.float32)


def _crop_fourier(fourier: NDArray[Any], size: int) -> NDArray[Any]:
    """Keep the part of a cube's half transform that a cube of `size` voxels over the same length has."""
    full = fourier.shape[0]
    kept = np.rint(np.fft.fftfreq(size, 1 / size)).astype(int) % full
    return np.asarray(fourier[np.ix_(kept, kept, np.arange(size // 2 + 1))])


def frequency_of(size: int, voxel_size: float) -> NDArray[np.float32]:
    """Return |q| in 1/Å on the half transform of a cube: (size, size, size // 2 + 1)."""
    along = np.fft.fftfreq(size, voxel_size).astype(np.float32) ** 2
    half = np.fft.rfftfreq(size, voxel_size).astype(np.float32) ** 2
    return np.asarray(np.sqrt(along[:, None, None] + along[None, :, None] + half), dtype=np.float32)


def soft_low_pass(frequency: NDArray[np.float32], resolution: float) -> NDArray[np.float32]:
    """Return 1 up to (1 − _SOFT_EDGE)/resolution, 0 from 1/resolution on, a raised cosine between."""
    into_edge = np.clip((frequency * resolution - (1 - _SOFT_EDGE)) / _SOFT_EDGE, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(pi * into_edge), dtype=np.float32)


def coloured_noise(
    shape: tuple[int, int, int], voxel_size: float, colour: float, seed: int | Sequence[int]
) -> NDArray[np.float32]:
    """Return Gaussian noise of mean 0 and variance 1, with amplitudes falling as exp(−colour · q²/4)."""
    white = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    fourier = np.fft.rfftn(white) * np.exp(-colour / 4 * frequency_of(shape[0], voxel_size) ** 2)
    fourier[0, 0, 0] = 0
    noise = np.fft.irfftn(fourier, s=shape, axes=(0, 1, 2))
    return np.asarray(noise / noise.std(), dtype=np.float32)


def noise_power(size: int, voxel_size: float, colour: float) -> NDArray[np.float64]:
    """Return the expected power |F|² of `coloured_noise`'s coefficients per shell, 0 to size // 2."""
    full = np.exp(-colour / 2 * frequency_of(size, voxel_size).astype(np.float64) ** 2)
    full[0, 0, 0] = 0
    # Over all coefficients the mean power is size³ at variance 1 (Parseval).
    mean = float((full * _copies(size)).sum() / size**3)
    return shell_means(full, size) * size**3 / mean


def shell_index(size: int) -> NDArray[np.intp]:
    """Return the shell of every coefficient of a half transform: round(|q| · size · voxel size)."""
    return np.rint(frequency_of(size, 1.0) * size).astype(np.intp)


def shell_means(values: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Return the means of a half transform's values over shells 0 to size // 2."""
    shell, copies = shell_index(size).ravel(), _copies(size)
    sums = np.bincount(shell, (values * copies).ravel())
    counts = np.bincount(shell, np.broadcast_to(copies, values.shape).ravel())
    return np.asarray((sums / np.maximum(counts, 1))[: size // 2 + 1])


def _copies(size: int) -> NDArray[np.float64]:
    """Return how often coefficients of a half transform are there in the whole, along its last axis."""
    copies = np.full(size // 2 + 1, 2.0)
    copies[0] = 1
    if size % 2 == 0:
        copies[-1] = 1
    return copies


MODEL_B = 100.0
"""B-factor (Å²) of every atom. Common B is absorbed by the scale per shell; on channel 250 in its place
moves no occupancy by 0.001."""


@dataclass(frozen=True, eq=False)
class PartAtoms:
    """Atoms of a model, and which part each belongs to.

    Attributes
    ----------
    xyz : ndarray of float64, shape (n, 3)
        Å, in the frame of the box: the first voxel's centre is at 0.
    elements : ndarray of uint8, shape (n,)
        Atomic numbers.
    part : ndarray of int64, shape (n,)
        Index into `names`; −1 for atoms of no part.
    names : tuple of str
        Parts.
    """

    xyz: npt.NDArray[np.float64]
    elements: npt.NDArray[np.uint8]
    part: npt.NDArray[np.int64]
    names: tuple[str, ...]

    def densities(
        self, side: float, size: int, resolution: float, b_factor: float = MODEL_B
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Density of each part, one after another.

        Parameters
        ----------
        side : float
            Of the box in Å.
        size : int
            Voxels along each side.
        resolution : float
            Å; densities are complete up to it. At least two voxels.
        b_factor : float
            Å², of every atom.

        Yields
        ------
        ndarray of float32, shape (size, size, size)
            z, y, x.
        """
        import gemmi

        cell = gemmi.UnitCell(side, side, side, 90, 90, 90)
        for number in range(len(self.names)):
            atoms = self._of(np.flatnonzero(self.part == number), b_factor)
            # The band's soft edge lies beyond the resolution asked for.
            yield _potential(atoms, cell, size, side / size, 0.85 * resolution)

    def _of(self, chosen: npt.NDArray[np.intp], b_factor: float) -> Iterator[gemmi.Atom]:
        import gemmi

        for index in chosen:
            atom = gemmi.Atom()
            atom.element = gemmi.Element(int(self.elements[index]))
            atom.pos, atom.b_iso = gemmi.Position(*self.xyz[index]), b_factor
            yield atom
