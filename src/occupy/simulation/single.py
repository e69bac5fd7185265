"""One map with known occupancies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from occupy.simulation.checks import check_numbers, per_chain
from occupy.simulation.noise import coloured_noise, noise_power
from occupy.simulation.processing import (
    Processing,
    apply,
    as_tuple,
    last_shell,
    resolution_of,
    ssnr_of,
    wiener_weights,
    window_of,
)
from occupy.simulation.scene import Scene, clean_map, make_scene, noise_sigma, with_occupancies

if TYPE_CHECKING:
    import gemmi

Array = NDArray[np.float32]


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
    b_factors : mapping of str to float
        Å² that each chain has on top of the others.
    half_maps : tuple of two such arrays, or None
        Independent halves of the data; their mean is ``map``.
    ssnr : tuple of float, or None
        With Wiener shrinkage: spectral signal-to-noise ratio per shell (0 to half the box); the map's
        shells were multiplied by SSNR/(1 + SSNR).
    estimated_resolution : float, or None
        Å, with Wiener shrinkage: where the SSNR falls below 1.
    """

    map: Array
    clean: Array
    voxel_size: float
    occupancies: Mapping[str, float]
    structure: gemmi.Structure
    resolution: float
    b_factors: Mapping[str, float]
    half_maps: tuple[Array, Array] | None = None
    ssnr: tuple[float, ...] | None = None
    estimated_resolution: float | None = None


def simulate(
    structure: gemmi.Structure,
    *,
    voxel_size: float = 3.0,
    box: int | None = None,
    resolution: float = 6.0,
    occupancies: Mapping[str, float] | None = None,
    b_factors: Mapping[str, float] | None = None,
    rim_b_factor: float = 0.0,
    signal_to_noise: float = 30.0,
    noise_colour: float = 200.0,
    half_maps: bool = False,
    processing: Processing | None = None,
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
    rim_b_factor : float
        Å² that the atom farthest from the model's middle has on top of all this; it grows with the square of
        the distance, as errors of alignment make it.
    signal_to_noise : float
        Variance of the clean map *of the fully occupied model* over voxels within 3 Å of an atom, divided
        by the variance of the noise over the box, both before any processing. So occupancies don't change the
        noise. ``inf`` for no noise.
    noise_colour : float
        B-factor of the noise in Å²: its amplitudes are white times exp(−B q²/4), and its mean over the box
        is 0. With 0 it is white up to the corners of Fourier space. The solvent of a real map at 7.7 Å
        (beta-galactosidase, unsharpened) had about 500.
    half_maps : bool
        Also make two halves with independent noise of twice the variance. The map stays the same.
    processing : Processing, optional
        Shrinkage, sharpening, mask; nothing by default.
    seed : int
        Of the noise. The same arguments give the same map.

    Returns
    -------
    Simulation
        Map and truth. Unless asked for, nothing is masked: noise fills the box.

    Raises
    ------
    TypeError
        If `structure` is not a gemmi.Structure.
    ValueError
        If a number is out of range, a chain unknown, or the box too small for the model.
    """
    check_numbers(voxel_size, resolution, signal_to_noise, noise_colour)
    scene = make_scene(
        structure,
        voxel_size=voxel_size,
        box=box,
        resolution=resolution,
        b_factors=b_factors,
        rim_b_factor=rim_b_factor,
    )
    occupancy = per_chain("occupancies", occupancies, scene.chains, default=1.0, highest=1.0)
    clean = clean_map(scene, occupancy)
    everything = dict.fromkeys(occupancy, 1.0)
    full = clean if occupancy == everything or np.isinf(signal_to_noise) else clean_map(scene, everything)
    sigma = noise_sigma(scene, full, signal_to_noise)
    noise = Noise(sigma, noise_colour, seed, (seed, 1) if half_maps else None)
    return finish(scene, occupancy, clean, noise, processing or Processing())


@dataclass(frozen=True)
class Noise:
    """What noise to draw.

    Attributes
    ----------
    sigma : float
        Standard deviation in volts.
    colour : float
        B-factor in Å².
    seed : int or sequence of int
        Of the map's noise.
    half_seed : sequence of int, or None
        Of half the difference of the half-maps; None for no half-maps.
    """

    sigma: np.float32
    colour: float
    seed: int | Sequence[int]
    half_seed: Sequence[int] | None = None


def raw_maps(scene: Scene, clean: Array, noise: Noise) -> list[Array]:
    """Return the map with noise and, if wanted, its halves, before processing.

    The halves are map ± a noise of the same strength: independent of each other, as the covariance of the
    sum and the difference of two equal Gaussians is zero.
    """
    shape = (scene.size,) * 3
    whole = clean + noise.sigma * coloured_noise(shape, scene.voxel_size, noise.colour, noise.seed)
    if noise.half_seed is None:
        return [whole]
    difference = noise.sigma * coloured_noise(shape, scene.voxel_size, noise.colour, noise.half_seed)
    return [whole, whole + difference, whole - difference]


def spectrum_of(scene: Scene, clean: Array, noise: Noise, processing: Processing) -> NDArray[np.float64]:
    """Return the SSNR per shell of a map before processing."""
    power = noise_power(scene.size, scene.voxel_size, noise.colour) * float(noise.sigma) ** 2
    return ssnr_of(clean, power, processing.tau2_fudge)


def finish(
    scene: Scene,
    occupancies: Mapping[str, float],
    clean: Array,
    noise: Noise,
    processing: Processing,
    *,
    current: int | None = None,
    raw: Sequence[Array] | None = None,
) -> Simulation:
    """Add noise to a clean map and process it.

    Parameters
    ----------
    scene, occupancies, clean, noise, processing
        See the classes.
    current : int, optional
        Shell at which Wiener shrinkage cuts off; the map's own last one by default.
    raw : sequence of arrays, optional
        The maps of `raw_maps`, where they are there already.
    """
    ssnr = spectrum_of(scene, clean, noise, processing) if processing.wiener else None
    last = 0 if ssnr is None else last_shell(ssnr)
    weights = None if ssnr is None else wiener_weights(ssnr, last if current is None else current)
    window = window_of(scene, processing)
    raw = raw or raw_maps(scene, clean, noise)
    maps = [read_only(apply(data, scene, processing, window, weights)) for data in (clean, *raw)]
    return Simulation(
        map=maps[1],
        clean=maps[0],
        voxel_size=scene.voxel_size,
        occupancies=MappingProxyType(dict(occupancies)),
        structure=with_occupancies(scene, occupancies),
        resolution=scene.resolution,
        b_factors=scene.b_factors,
        half_maps=(maps[2], maps[3]) if len(maps) == 4 else None,
        ssnr=None if ssnr is None else as_tuple(ssnr),
        estimated_resolution=None if ssnr is None else resolution_of(scene, last),
    )


def read_only(array: Array) -> Array:
    """Return a view of an array that cannot be written to."""
    view = array.view()
    view.setflags(write=False)
    return view
