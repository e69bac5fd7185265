"""What a reconstruction goes through after averaging: Wiener shrinkage, sharpening, a solvent mask.

Every step is linear, so that the average of processed half-maps is the processed map, and a clean map can be
processed alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from occupy.simulation.noise import shell_index, shell_means
from occupy.simulation.potential import frequency_of, soft_low_pass
from occupy.simulation.readout import voxels_near
from occupy.simulation.scene import Scene

Mask = Literal["none", "sphere", "soft"]
MASKS: tuple[Mask, ...] = ("none", "sphere", "soft")

EDGE_VOXELS = 5.0
"""Default width of a mask's edge in voxels, as RELION's ``--width_mask_edge``."""

SPHERE_MARGIN = 10.0
"""Å between the outermost atom and the default sphere."""

SOFT_MARGIN = 6.0
"""Å around atoms within which the soft mask is 1, by default."""

BEYOND_CURRENT = 1
"""Shells kept beyond the last one with SSNR ≥ 1; RELION's class maps end about there."""


@dataclass(frozen=True)
class Processing:
    """What is done to map, half-maps and clean map alike.

    Attributes
    ----------
    sharpening : float
        B-factor in Å² taken off: amplitudes times exp(+B q²/4), then a soft low-pass at the simulation's
        resolution. Negative values blur. 0 leaves the map, noise beyond the resolution included, as it is.
    mask : {"none", "sphere", "soft"}
        Zero outside of a sphere around the box's middle, or of a mask around all atoms, with a raised-cosine
        edge outside of it.
    mask_radius : float, optional
        Å; of the sphere (by default 10 Å beyond the outermost atom), or around atoms (by default 6 Å).
    mask_edge : float, optional
        Å over which the mask falls to zero; five voxels by default.
    wiener : bool
        Multiply every shell by SSNR/(1 + SSNR) and cut it off where the SSNR has fallen below 1, as RELION
        regularises its maps. SSNR = `tau2_fudge` · power of the signal / power of the noise. (RELION takes
        the signal's power from its previous, already shrunken map; where the SSNR is high, that is the same.)
    tau2_fudge : float
        RELION's T.
    """

    sharpening: float = 0.0
    mask: Mask = "none"
    mask_radius: float | None = None
    mask_edge: float | None = None
    wiener: bool = False
    tau2_fudge: float = 1.0

    def __post_init__(self) -> None:
        if not isfinite(self.sharpening):
            raise ValueError(f"sharpening must be a B-factor in Å², not {self.sharpening!r}")
        if self.mask not in MASKS:
            raise ValueError(f"mask must be one of {', '.join(MASKS)}, not {self.mask!r}")
        for name in ("mask_radius", "mask_edge", "tau2_fudge"):
            number = getattr(self, name)
            if number is not None and not (isfinite(number) and number > 0):
                raise ValueError(f"{name} must be a positive number, not {number!r}")


def ssnr_of(clean: NDArray[np.float32], noise: NDArray[np.float64], tau2_fudge: float) -> NDArray[np.float64]:
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


def wiener_weights(ssnr: NDArray[np.float64], last: int) -> NDArray[np.float64]:
    """Return SSNR/(1 + SSNR) per shell, zero from a shell beyond `last` on."""
    weights = ssnr / (1 + ssnr)
    weights[last + 1 + BEYOND_CURRENT :] = 0
    return weights


def apply(
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
        From `window_of`.
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


def window_of(scene: Scene, processing: Processing) -> NDArray[np.float32] | None:
    """Return the solvent mask, 1 inside and 0 outside: (size, size, size); None where nothing is masked."""
    if processing.mask == "none":
        return None
    edge = processing.mask_edge or EDGE_VOXELS * scene.voxel_size
    if processing.mask == "sphere":
        distance = _from_sphere(scene, processing.mask_radius)
    else:
        distance = _from_atoms(scene, processing.mask_radius or SOFT_MARGIN)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip(distance / edge, 0, 1)), dtype=np.float32)


def _from_sphere(scene: Scene, radius: float | None) -> NDArray[np.float32]:
    """Return how far voxels lie outside of the sphere in Å."""
    middle = scene.size / 2
    if radius is None:
        outermost = np.sqrt(((scene.atoms_zyx() - middle) ** 2).sum(axis=1).max()) * scene.voxel_size
        radius = min(outermost + SPHERE_MARGIN, middle * scene.voxel_size)
    along = (np.arange(scene.size, dtype=np.float32) - np.float32(middle)) ** 2
    squared = along[:, None, None] + along[:, None] + along
    return np.asarray(np.sqrt(squared) * np.float32(scene.voxel_size) - np.float32(radius))


def _from_atoms(scene: Scene, radius: float) -> NDArray[np.float32]:
    """Return how far voxels lie outside of a distance around atoms, in Å."""
    from scipy.ndimage import distance_transform_edt

    outside = np.ones((scene.size,) * 3, dtype=bool)
    outside.reshape(-1)[voxels_near(scene.atoms_zyx(), radius / scene.voxel_size, outside.shape)] = False
    return np.asarray(distance_transform_edt(outside) * scene.voxel_size, dtype=np.float32)


def resolution_of(scene: Scene, last: int) -> float | None:
    """Return the resolution of a shell in Å; None for shell 0."""
    return scene.size * scene.voxel_size / last if last else None


def as_tuple(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    """Return plain numbers."""
    return tuple(float(value) for value in values)
