"""Spectra of cubic maps, brought from one grid to another, and reconstruction from data and weights.

A spectrum is half-complex (the layout of `numpy.fft.rfftn`), of an even grid over the whole extent of a map,
with the phase origin at the box's centre voxel, divided by the number of voxels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Spectrum = npt.NDArray[np.complexfloating]
Real = npt.NDArray[np.floating]


@lru_cache(maxsize=8)
def radii(m: int) -> npt.NDArray[np.float32]:
    """Return the radius, in shells, of each coefficient of an m³ map's half-complex spectrum."""
    k = np.fft.fftfreq(m) * m
    squares = k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.arange(m // 2 + 1) ** 2
    return np.sqrt(squares).astype(np.float32)


def even_size(least: int) -> int:
    """Return the least even number from ``least`` on without prime factors above 5."""
    size = max(4, least + least % 2)
    while _rest(size) > 1:
        size += 2
    return size


def _rest(n: int) -> int:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n


def spectrum_of(data: Real, m: int | None = None) -> npt.NDArray[np.complex64]:
    """Transform a cubic map, and crop it to the grid m³ where one is given."""
    whole = np.fft.rfftn(np.fft.ifftshift(data)) / np.float32(data.size)
    return resize(whole, m or len(data)).astype(np.complex64)


def map_of(spectrum: Spectrum, n: int | None = None) -> npt.NDArray[np.float32]:
    """Return the map of a spectrum, sampled with n³ voxels (by default those of the spectrum's grid)."""
    n = n or len(spectrum)
    data = np.fft.irfftn(resize(spectrum, n), s=(n, n, n), axes=(0, 1, 2))
    data *= n**3
    return np.fft.fftshift(data).astype(np.float32)


def resize(spectrum: Spectrum, m: int) -> Spectrum:
    """Crop a spectrum to a smaller even grid, or fill it up with zeros to a larger one.

    Coefficients at the Nyquist frequency of the smaller grid are left out.
    """
    old = len(spectrum)
    if m == old:
        return spectrum
    reach = (min(old, m) - 1) // 2
    out = np.zeros((m, m, m // 2 + 1), dtype=spectrum.dtype)
    k = np.arange(-reach, reach + 1)
    out[np.ix_(k % m, k % m, k[reach:])] = spectrum[np.ix_(k % old, k % old, k[reach:])]
    return out


LEAST_WEIGHT = 1e-3
"""Weights are not taken to be below this part of their shell's mean: RELION's own floor."""


def shell_numbers(rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], padding: int) -> Real:
    """Return the distance from the origin, in shells of the unpadded map, of a block of coefficients."""
    squares = rows[:, None, None] ** 2 + rows[None, :, None] ** 2 + columns**2
    return np.asarray(np.sqrt(squares.astype(np.float32)) / np.float32(padding))


def divided(data: Spectrum, weight: Real, radius: Real) -> Spectrum:
    """Return data over weights, as a reconstruction without a prior has it; 0 where nothing was measured.

    Parameters
    ----------
    data : ndarray of complex
        Sums of the particles' coefficients, times CTF over noise variance.
    weight : ndarray
        Sums of CTF² over noise variance, at the same coefficients.
    radius : ndarray
        Shells from the origin.
    """
    shell = np.rint(radius).astype(np.intp)
    count = np.bincount(shell.ravel())
    mean = np.bincount(shell.ravel(), np.maximum(weight, 0).ravel()) / np.maximum(count, 1)
    floor = np.maximum(weight, (LEAST_WEIGHT * mean).astype(np.float32)[shell])
    return np.asarray(np.where(floor > 0, data / np.where(floor > 0, floor, 1), 0))


def without_gridding(padded: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """Cut a map out of a padded one, and take off the fall-off that trilinear interpolation left.

    Interpolation between grid points multiplies the map by sinc² of the distance from the centre
    (O'Sullivan, IEEE Trans. Med. Imaging 4, 200, 1985). Beyond the sphere that fits the box the divisor stays
    what it is at its surface.
    """
    m = len(padded)
    corner = m // 2 - n // 2
    inside = slice(corner, corner + n)
    x = (np.arange(n) - n // 2).astype(np.float32)
    r = np.sqrt(x[:, None, None] ** 2 + x[None, :, None] ** 2 + x**2)
    return np.asarray(padded[inside, inside, inside] / np.sinc(np.minimum(r, n / 2) / m) ** 2)
