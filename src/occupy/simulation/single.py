"""One map with known occupancies: noise, and what a reconstruction goes through after averaging.

Wiener shrinkage, sharpening and a solvent mask are linear, so that the average of processed half-maps is the
processed map, and a clean map can be processed alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from occupy.requests import Imaging, Processing
from occupy.settings import short_repr
from occupy.simulation.models import (
    Scene,
    per_chain,
    voxels_near,
)
from occupy.simulation.potential import (
    coloured_noise,
    frequency_of,
    noise_power,
    shell_index,
    shell_means,
    soft_low_pass,
)

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

    __repr__ = short_repr


def simulate(
    structure: gemmi.Structure,
    *,
    occupancies: Mapping[str, float] | None = None,
    b_factors: Mapping[str, float] | None = None,
    processing: Processing | None = None,
    **imaging: Any,
) -> Simulation:
    """Simulate the reconstruction of a complex whose chains are present in part of the particles.

    Parameters
    ----------
    structure : gemmi.Structure
        Its first model is used, without hydrogens and alternative conformations, and is not changed.
    occupancies : mapping of str to float, optional
        Per chain, within [0, 1]; 1 for chains not named.
    b_factors : mapping of str to float, optional
        Å² per chain *on top of* 4 d², not negative; 0 for chains not named.
    processing : Processing, optional
        Shrinkage, sharpening, mask; nothing by default.
    voxel_size : float, default 3
        Å.
    box : int, optional
        Voxels along each side, an even number. By default the least without prime factors above 5 that leaves
        30 % of the side to solvent where the model is longest.
    resolution : float, default 6
        d in Å, at least two voxels. All atoms get the B-factor 4 d² (144 Å² at 6 Å): amplitudes have fallen
        to 1/e at d, as in an unsharpened map. A soft low-pass is zero from 1/d on.
    rim_b_factor : float, default 0
        Å² that the atom farthest from the model's middle has on top of all this; it grows with the square of
        the distance, as errors of alignment make it.
    signal_to_noise : float, default 30
        Variance of the clean map *of the fully occupied model* over voxels within 3 Å of an atom, divided
        by the variance of the noise over the box, both before any processing. So occupancies don't change the
        noise. ``inf`` for no noise.
    noise_colour : float, default 200
        B-factor of the noise in Å²: its amplitudes are white times exp(−B q²/4), and its mean over the box
        is 0. With 0 it is white up to the corners of Fourier space. The solvent of a real map at 7.7 Å
        (beta-galactosidase, unsharpened) had about 500.
    half_maps : bool, default False
        Also make two halves with independent noise of twice the variance. The map stays the same.
    seed : int, default 0
        Of the noise. The same arguments give the same map.

    Returns
    -------
    Simulation
        Map and truth. Unless asked for, nothing is masked: noise fills the box.

    Raises
    ------
    TypeError
        If `structure` is not a gemmi.Structure, or for a name that is none of these.
    ValueError
        If a number is out of range, a chain unknown, or the box too small for the model.
    """
    asked = Imaging(**imaging)
    scene = Scene.of(structure, asked, b_factors)
    occupancy = per_chain("occupancies", occupancies, scene.chains, default=1.0, highest=1.0)
    clean = scene.clean_map(occupancy)
    everything = dict.fromkeys(occupancy, 1.0)
    full = (
        clean if occupancy == everything or np.isinf(asked.signal_to_noise) else scene.clean_map(everything)
    )
    sigma = scene.noise_sigma(full, asked.signal_to_noise)
    noise = Noise(sigma, asked.noise_colour, asked.seed, (asked.seed, 1) if asked.half_maps else None)
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
    return _ssnr_of(clean, power, processing.tau2_fudge)


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
    weights = None if ssnr is None else _wiener_weights(ssnr, last if current is None else current)
    window = _window_of(scene, processing)
    raw = raw or raw_maps(scene, clean, noise)
    maps = [_read_only(_apply(data, scene, processing, window, weights)) for data in (clean, *raw)]
    return Simulation(
        map=maps[1],
        clean=maps[0],
        voxel_size=scene.voxel_size,
        occupancies=MappingProxyType(dict(occupancies)),
        structure=scene.with_occupancies(occupancies),
        resolution=scene.resolution,
        b_factors=scene.b_factors,
        half_maps=(maps[2], maps[3]) if len(maps) == 4 else None,
        ssnr=None if ssnr is None else tuple(ssnr.tolist()),
        estimated_resolution=None if ssnr is None else _resolution_of(scene, last),
    )


def _read_only(array: Array) -> Array:
    """Return a view of an array that cannot be written to."""
    view = array.view()
    view.setflags(write=False)
    return view


def _ssnr_of(
    clean: NDArray[np.float32], noise: NDArray[np.float64], tau2_fudge: float
) -> NDArray[np.float64]:
    """Return the spectral signal-to-noise ratio per shell, 0 to size // 2.

    Parameters
    ----------
    clean : (size, size, size) array
        Map without noise.
    noise : (size // 2 + 1,) array
        Power of the noise per shell.
    tau2_fudge : float
        Factor on the signal's power.
    """
    if not noise[1:].all():
        raise ValueError("Wiener shrinkage needs noise in every shell: signal_to_noise is infinite")
    signal = shell_means(np.abs(np.fft.rfftn(clean)) ** 2, len(clean))
    ratio = np.zeros_like(noise)
    np.divide(tau2_fudge * signal, noise, out=ratio, where=noise > 0)
    ratio[0] = max(ratio[0], ratio[1])  # the noise has no mean, so its first shell says nothing
    return ratio


def last_shell(ssnr: NDArray[np.float64]) -> int:
    """Return the last shell before the SSNR first falls below 1; 0 where it does so at once."""
    below = np.flatnonzero(ssnr[1:] < 1)
    return int(below[0]) if below.size else len(ssnr) - 1


def _wiener_weights(ssnr: NDArray[np.float64], last: int) -> NDArray[np.float64]:
    """Return SSNR/(1 + SSNR) per shell, zero from a shell beyond `last` on: there RELION's maps end about."""
    weights = ssnr / (1 + ssnr)
    weights[last + 2 :] = 0
    return weights


def _apply(
    data: NDArray[np.float32],
    scene: Scene,
    processing: Processing,
    window: NDArray[np.float32] | None,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Return a map after all steps.

    Parameters
    ----------
    data : (size, size, size) array
        Map.
    scene : Scene
        Gives voxel size and resolution.
    processing : Processing
        Steps.
    window : (size, size, size) array or None
        From `_window_of`.
    weights : (size // 2 + 1,) array, optional
        Wiener weight per shell.
    """
    out = data
    transfer = _transfer(scene, processing, weights)
    if transfer is not None:
        out = np.fft.irfftn(np.fft.rfftn(out) * transfer, s=out.shape, axes=(0, 1, 2)).astype(np.float32)
    return out if window is None else np.asarray(out * window, dtype=np.float32)


def _transfer(
    scene: Scene, processing: Processing, weights: NDArray[np.float64] | None
) -> NDArray[np.float32] | None:
    """Return the factor on every coefficient of the half transform; None where there is none."""
    if weights is None and processing.sharpening == 0:
        return None
    frequency = frequency_of(scene.size, scene.voxel_size)
    transfer: NDArray[np.floating] = np.ones_like(frequency)
    if processing.sharpening:
        # Nothing passes beyond 1/resolution, where the exponential might overflow.
        reach = np.minimum(frequency, 1 / scene.resolution)
        transfer = np.exp(processing.sharpening / 4 * reach**2) * soft_low_pass(frequency, scene.resolution)
    if weights is not None:
        shells = np.append(weights, np.zeros(scene.size))[shell_index(scene.size)]
        transfer = transfer * shells
    return np.asarray(transfer, dtype=np.float32)


def _window_of(scene: Scene, processing: Processing) -> NDArray[np.float32] | None:
    """Return the solvent mask, 1 inside and 0 outside: (size, size, size); None where nothing is masked."""
    if processing.mask == "none":
        return None
    # Five voxels of edge, as RELION's --width_mask_edge; the soft mask is 1 within 6 Å of atoms.
    edge = processing.mask_edge or 5.0 * scene.voxel_size
    if processing.mask == "sphere":
        distance = _from_sphere(scene, processing.mask_radius)
    else:
        distance = _from_atoms(scene, processing.mask_radius or 6.0)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip(distance / edge, 0, 1)), dtype=np.float32)


def _from_sphere(scene: Scene, radius: float | None) -> NDArray[np.float32]:
    """Return how far voxels lie outside of the sphere in Å."""
    middle = scene.size / 2
    if radius is None:
        outermost = np.sqrt(((scene.atoms_zyx() - middle) ** 2).sum(axis=1).max()) * scene.voxel_size
        radius = min(outermost + 10.0, middle * scene.voxel_size)
    along = (np.arange(scene.size, dtype=np.float32) - np.float32(middle)) ** 2
    squared = along[:, None, None] + along[:, None] + along
    return np.asarray(np.sqrt(squared) * np.float32(scene.voxel_size) - np.float32(radius))


def _from_atoms(scene: Scene, radius: float) -> NDArray[np.float32]:
    """Return how far voxels lie outside of a distance around atoms, in Å."""
    from scipy.ndimage import distance_transform_edt

    outside = np.ones((scene.size,) * 3, dtype=bool)
    outside.reshape(-1)[voxels_near(scene.atoms_zyx(), radius / scene.voxel_size, outside.shape)] = False
    return np.asarray(distance_transform_edt(outside) * scene.voxel_size, dtype=np.float32)


def _resolution_of(scene: Scene, last: int) -> float | None:
    """Return the resolution of a shell in Å; None for shell 0."""
    return scene.size * scene.voxel_size / last if last else None
