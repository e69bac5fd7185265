"""Noise whose amplitudes fall with resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from occupy.simulation.potential import frequency_of


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
    weight = np.full(full.shape, 2.0)
    weight[..., 0] = 1
    if size % 2 == 0:
        weight[..., -1] = 1
    mean = float((full * weight).sum() / size**3)
    return shell_means(full, size) * size**3 / mean


def shell_index(size: int) -> NDArray[np.intp]:
    """Return the shell of every coefficient of a half transform: round(|q| · size · voxel size)."""
    return np.rint(frequency_of(size, 1.0) * size).astype(np.intp)


def shell_means(values: NDArray[np.floating], size: int) -> NDArray[np.float64]:
    """Return the means of a half transform's values over shells 0 to size // 2.

    Coefficients whose mirror image is not stored count twice.
    """
    shell = shell_index(size).ravel()
    weight = np.full(values.shape, 2.0)
    weight[..., 0] = 1
    if size % 2 == 0:
        weight[..., -1] = 1
    sums = np.bincount(shell, (values * weight).ravel())
    counts = np.bincount(shell, weight.ravel())
    return np.asarray((sums / np.maximum(counts, 1))[: size // 2 + 1])
