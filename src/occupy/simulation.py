"""Maps with known occupancy, made from an atomic model: for the demo, for tests and for benchmarks.

The way of the data: model → placed in a box → electrostatic potential of its atoms minus that of the ice
they displace → band-limited at a resolution → plus noise. Every step before the noise is linear in the
occupancies, so the truth is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from math import ceil, isfinite, pi
from operator import index
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import gemmi

__all__ = ["Simulation", "chain_values", "demo_occupancies", "demo_structure", "simulate"]

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

SOFT_EDGE = 0.15
"""The low-pass falls from 1 to 0, as a raised cosine, over this last fraction of the band."""

ENVELOPE_RADIUS = 3.0
"""Å around any atom's centre that count as molecule when the signal's variance is taken."""

PADDING = 0.3
"""The least share of the default box's side that the model does not reach."""

FADING = (0.15, 0.3, 0.5, 0.75)
"""Occupancies of the demo's partial chains, from the outermost one inwards."""


@dataclass(frozen=True)
class Simulation:
    """A simulated map and the truth it was made from.

    Attributes
    ----------
    map : (nz, ny, nx) float32 array, read-only
        Potential relative to ice, in volts, with noise.
    clean : (nz, ny, nx) float32 array, read-only
        The same without noise.
    voxel_size : float
        Å.
    occupancies : mapping of str to float
        True occupancy of every chain.
    structure : gemmi.Structure
        The model as simulated, in the map's frame: an atom at ``xyz`` (Å) lies at voxel
        ``(z, y, x) = xyz[::-1] / voxel_size``. Its atoms carry the simulated occupancies and B-factors.
    resolution : float
        Å; the map has no signal beyond it.
    """

    map: NDArray[np.float32]
    clean: NDArray[np.float32]
    voxel_size: float
    occupancies: Mapping[str, float]
    structure: gemmi.Structure
    resolution: float


def simulate(
    structure: gemmi.Structure,
    *,
    voxel_size: float = 3.0,
    box: int | None = None,
    resolution: float = 6.0,
    occupancies: Mapping[str, float] | None = None,
    b_factors: Mapping[str, float] | None = None,
    signal_to_noise: float = 30.0,
    noise_colour: float = 200.0,
    seed: int = 0,
) -> Simulation:
    """Simulate the reconstruction of a complex whose chains are present in part of the particles.

    Parameters
    ----------
    structure : gemmi.Structure
        Its first model is used, without hydrogens and alternative conformations, and is not changed.
    voxel_size : float
        Å.
    box : int, optional
        Voxels along each side, an even number. By default the least without prime factors above 5 that leaves
        30 % of the side to solvent where the model is longest.
    resolution : float
        d in Å, at least two voxels. All atoms get the B-factor 4 d² (144 Å² at 6 Å): amplitudes have fallen
        to 1/e at d, as in an unsharpened map. A soft low-pass is zero from 1/d on.
    occupancies : mapping of str to float, optional
        Per chain, within [0, 1]; 1 for chains not named.
    b_factors : mapping of str to float, optional
        Å² per chain *on top of* 4 d², not negative; 0 for chains not named.
    signal_to_noise : float
        Variance of the clean map *of the fully occupied model* over voxels within 3 Å of an atom, divided
        by the variance of the noise over the box. So occupancies don't change the noise. ``inf`` for no
        noise.
    noise_colour : float
        B-factor of the noise in Å²: its amplitudes are white times exp(−B q²/4), and its mean over the box
        is 0. With 0 it is white up to the corners of Fourier space. The solvent of a real map at 7.7 Å
        (beta-galactosidase, unsharpened) had about 500.
    seed : int
        Of the noise. The same arguments give the same map.

    Returns
    -------
    Simulation
        Map and truth. Nothing is masked: noise fills the box.

    Raises
    ------
    TypeError
        If `structure` is not a gemmi.Structure.
    ValueError
        If a number is out of range, a chain unknown, or the box too small for the model.
    """
    _check_structure(structure)
    _check_numbers(voxel_size, resolution, signal_to_noise, noise_colour)
    chains = _chain_names(structure)
    occupancy = _per_chain("occupancies", occupancies, chains, default=1.0, highest=1.0)
    extra_b = _per_chain("b_factors", b_factors, chains, default=0.0, highest=np.inf)
    heavy = _heavy_atoms(structure)
    size = _box_size(heavy, voxel_size, box)

    placed = _place(heavy, size * voxel_size)
    for chain in placed[0]:
        _set_atoms(chain, occupancy[chain.name], 4 * resolution**2 + extra_b[chain.name])
    clean = _potential(placed, size, voxel_size, resolution)
    noise = _noise((size,) * 3, voxel_size, noise_colour, seed)
    noise *= _noise_sigma(placed, clean, voxel_size, resolution, signal_to_noise)
    return Simulation(
        map=_read_only(clean + noise),
        clean=_read_only(clean),
        voxel_size=float(voxel_size),
        occupancies=MappingProxyType(occupancy),
        structure=placed,
        resolution=float(resolution),
    )


def demo_structure() -> gemmi.Structure:
    """Read the model that ships with the package: PDB entry 7PBL, the RuvAB motor on DNA.

    Returns
    -------
    gemmi.Structure
        Nine chains, heavy atoms of protein and DNA, in the entry's own frame (see data/README.md).
    """
    import gzip

    import gemmi

    packed = resources.files("occupy.data").joinpath("demo_model.cif.gz").read_bytes()
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
    _check_structure(structure)
    centres = {name: points.mean(axis=0) for name, points in _marker_points(structure).items()}
    if not centres:
        raise ValueError(f"structure {structure.name!r} has no chain with CA or P atoms")
    middle = np.mean(list(centres.values()), axis=0)
    outermost = max(centres, key=lambda name: float(np.linalg.norm(centres[name] - middle)))
    inwards = sorted(centres, key=lambda name: float(np.linalg.norm(centres[name] - centres[outermost])))
    partial = dict(zip(inwards[: len(centres) // 2], FADING, strict=False))
    return {name: partial.get(name, 1.0) for name in centres}


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
    _check_structure(structure)
    values = np.asarray(data)
    if values.ndim != 3:
        raise ValueError(f"data must have three axes, not shape {values.shape}")
    _check_positive(voxel_size=voxel_size, radius=radius)
    found = {}
    for name, points in _marker_points(structure).items():
        near = _near(points[:, ::-1] / voxel_size, radius / voxel_size, values.shape)
        if near.size == 0:
            raise ValueError(f"chain {name!r} lies outside the map of shape {values.shape} at {voxel_size} Å")
        found[name] = float(np.median(values.reshape(-1)[near]))
    return found


def _check_structure(structure: gemmi.Structure) -> None:
    """Raise TypeError or ValueError unless this is a structure with atoms."""
    import gemmi

    if not isinstance(structure, gemmi.Structure):
        raise TypeError(f"structure must be a gemmi.Structure, not {type(structure).__name__}")
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise ValueError(f"structure {structure.name!r} has no atoms")


def _check_positive(**numbers: float) -> None:
    """Raise ValueError unless every number is finite and above 0."""
    for name, number in numbers.items():
        if not (isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a positive number, not {number!r}")


def _check_numbers(voxel_size: float, resolution: float, signal_to_noise: float, noise_colour: float) -> None:
    """Raise ValueError for numbers no map can have."""
    _check_positive(voxel_size=voxel_size, resolution=resolution)
    # The voxel size may come from a float32 header, where two voxels are not exactly the resolution written
    # down.
    if resolution < 2 * voxel_size * (1 - 1e-6):
        raise ValueError(f"resolution {resolution!r} Å is beyond two voxels of {voxel_size!r} Å")
    if not signal_to_noise > 0:
        raise ValueError(f"signal_to_noise must be positive, not {signal_to_noise!r}")
    if not (isfinite(noise_colour) and noise_colour >= 0):
        raise ValueError(f"noise_colour must be a B-factor of 0 Å² or more, not {noise_colour!r}")


def _chain_names(structure: gemmi.Structure) -> list[str]:
    """Return the first model's chain names, each once, in their order."""
    return list(dict.fromkeys(chain.name for chain in structure[0]))


def _per_chain(
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


def _heavy_atoms(structure: gemmi.Structure) -> gemmi.Structure:
    """Return a copy of the first model without hydrogens and alternative conformations."""
    heavy = structure.clone()
    while len(heavy) > 1:
        del heavy[-1]
    heavy.remove_hydrogens()
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


def _place(structure: gemmi.Structure, side: float) -> gemmi.Structure:
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


def _potential(
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
    # With voxels of a quarter of the resolution d, what aliases into the band lies beyond 3/d, where atoms of
    # B = 4 d² have fallen to exp(−9).
    finer = max(1, ceil(4 * voxel_size / resolution - 1e-6))
    fine_zyx = _scattering_density(placed, size * finer)
    fourier = _crop_fourier(np.fft.rfftn(fine_zyx), size) / np.float32(finer**3)
    fourier *= _low_pass(_frequency(size, voxel_size), resolution)
    potential = np.fft.irfftn(fourier, s=(size,) * 3, axes=(0, 1, 2))
    return np.asarray(VOLT * potential, dtype=np.float32)


def _scattering_density(placed: gemmi.Structure, size: int) -> NDArray[np.float32]:
    """Return the scattering length density less that of the displaced ice in Å⁻²: (size, size, size), zyx."""
    import gemmi

    calculator = gemmi.DensityCalculatorE()
    calculator.grid.unit_cell = placed.cell
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(size, size, size)
    displaced = -ICE * HEAVY_SHARE * ATOM_VOLUME
    for site in placed[0].all():
        atom = site.atom
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


def _frequency(size: int, voxel_size: float) -> NDArray[np.float32]:
    """Return |q| in 1/Å on the half transform of a cube: (size, size, size // 2 + 1)."""
    along = np.fft.fftfreq(size, voxel_size).astype(np.float32) ** 2
    half = np.fft.rfftfreq(size, voxel_size).astype(np.float32) ** 2
    return np.asarray(np.sqrt(along[:, None, None] + along[None, :, None] + half), dtype=np.float32)


def _low_pass(frequency: NDArray[np.float32], resolution: float) -> NDArray[np.float32]:
    """Return 1 up to (1 − SOFT_EDGE)/resolution, 0 from 1/resolution on, a raised cosine between."""
    into_edge = np.clip((frequency * resolution - (1 - SOFT_EDGE)) / SOFT_EDGE, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(pi * into_edge), dtype=np.float32)


def _noise(shape: tuple[int, int, int], voxel_size: float, colour: float, seed: int) -> NDArray[np.float32]:
    """Return Gaussian noise of mean 0 and variance 1, with amplitudes falling as exp(−colour · q²/4)."""
    white = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    fourier = np.fft.rfftn(white) * np.exp(-colour / 4 * _frequency(shape[0], voxel_size) ** 2)
    fourier[0, 0, 0] = 0
    noise = np.fft.irfftn(fourier, s=shape, axes=(0, 1, 2))
    return np.asarray(noise / noise.std(), dtype=np.float32)


def _noise_sigma(
    placed: gemmi.Structure,
    clean: NDArray[np.float32],
    voxel_size: float,
    resolution: float,
    signal_to_noise: float,
) -> np.float32:
    """Return the noise's standard deviation in volts (see `signal_to_noise` of `simulate`)."""
    if np.isinf(signal_to_noise):
        return np.float32(0)
    full = clean
    if any(site.atom.occ != 1 for site in placed[0].all()):
        present = placed.clone()
        for chain in present[0]:
            _set_atoms(chain, 1.0)
        full = _potential(present, clean.shape[0], voxel_size, resolution)
    atoms = np.array([site.atom.pos.tolist() for site in placed[0].all()])
    inside = _near(atoms[:, ::-1] / voxel_size, ENVELOPE_RADIUS / voxel_size, clean.shape)
    return np.float32(np.sqrt(full.reshape(-1)[inside].var(dtype=np.float64) / signal_to_noise))


def _marker_points(structure: gemmi.Structure) -> dict[str, NDArray[np.float64]]:
    """Return the CA (not calcium) and P positions of each chain that has any: (n, 3), xyz, in Å."""
    points: dict[str, list[list[float]]] = {}
    for site in structure[0].all():
        if (site.atom.name, site.atom.element.name) in {("CA", "C"), ("P", "P")}:
            points.setdefault(site.chain.name, []).append(site.atom.pos.tolist())
    return {name: np.array(found) for name, found in points.items()}


def _near(points_zyx: NDArray[np.float64], radius: float, shape: tuple[int, ...]) -> NDArray[np.intp]:
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


def _read_only(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make an array non-writeable and return it."""
    array.setflags(write=False)
    return array
