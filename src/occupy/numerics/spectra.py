"""Fourier space in shells; spectra of cubic maps; reconstruction from data and weights.

Shells are of maps of any box and voxel size. A spectrum is half-complex (the layout of `numpy.fft.rfftn`), of
an even grid over the whole extent of a cubic map, with the phase origin at the box's centre voxel, divided by
the number of voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
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


def shell_numbers(rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], padding: int) -> Real:
    """Return the distance from the origin, in shells of the unpadded map, of a block of coefficients."""
    squares = rows[:, None, None] ** 2 + rows[None, :, None] ** 2 + columns**2
    return np.asarray(np.sqrt(squares.astype(np.float32)) / np.float32(padding))


def divided(data: Spectrum, weight: Real, radius: Real, least: float = 1e-3) -> Spectrum:
    """Return data over weights, as a reconstruction without a prior has it; 0 where nothing was measured.

    Parameters
    ----------
    data : ndarray of complex
        Sums of the particles' coefficients, times CTF over noise variance.
    weight : ndarray
        Sums of CTF² over noise variance, at the same coefficients.
    radius : ndarray
        Shells from the origin.
    least : float
        Weights are not taken to be below this part of their shell's mean: RELION's own floor.
    """
    shell = np.rint(radius).astype(np.intp)
    count = np.bincount(shell.ravel())
    mean = np.bincount(shell.ravel(), np.maximum(weight, 0).ravel()) / np.maximum(count, 1)
    floor = np.maximum(weight, (least * mean).astype(np.float32)[shell])
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


@dataclass(frozen=True)
class Shells:
    """Shells of the half-complex transform of one grid.

    Attributes
    ----------
    index : ndarray of intp, shape (nz, ny, nx // 2 + 1)
        Shell of each coefficient; what lies beyond the last shell belongs to it.
    weight : ndarray of float32, same shape
        2 where a coefficient stands for its conjugate too, otherwise 1.
    frequency : ndarray of float64
        1/Å of each shell.
    shape : tuple of int
        Of the map.
    """

    index: npt.NDArray[np.intp]
    weight: npt.NDArray[np.float32]
    frequency: npt.NDArray[np.float64]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.frequency)

    @property
    def count(self) -> npt.NDArray[np.float64]:
        """Number of coefficients per shell."""
        return self.sums(np.ones(self.index.shape, dtype=np.float32))

    def sums(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the sum of real values over each shell, conjugates included."""
        weighted = (values * self.weight).reshape(-1)
        summed = np.bincount(self.index.reshape(-1), weighted, minlength=len(self))
        return summed.astype(np.float64)

    def product(
        self, a: npt.NDArray[np.complexfloating], b: npt.NDArray[np.complexfloating]
    ) -> npt.NDArray[np.float64]:
        """Return the real part of the cross-power of two transforms per shell."""
        return self.sums(a.real * b.real + a.imag * b.imag)

    def spread(self, per_shell: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return each coefficient's value of a function per shell."""
        return np.asarray(per_shell, dtype=np.float32)[self.index]

    def soft_lowpass(self, resolution: float, edge: float = 0.3) -> npt.NDArray[np.float32]:
        """Return the share of each shell that a soft low-pass at `resolution` (Å) keeps: a raised cosine.

        It passes half at the cut-off; ``edge`` is its width as a share of that frequency.
        """
        x = (self.frequency * resolution - (1 - edge / 2)) / edge
        return (0.5 + 0.5 * np.cos(np.pi * np.clip(x, 0, 1))).astype(np.float32)

    @classmethod
    def of(cls, shape: tuple[int, int, int], voxel_size: tuple[float, float, float]) -> Shells:
        """Divide the transform of a grid into shells as wide as the finest of its three frequency steps.

        Parameters
        ----------
        shape : tuple of int
            Voxels along z, y, x.
        voxel_size : tuple of float
            Å along z, y, x.

        Returns
        -------
        Shells
            Up to the Nyquist frequency of the coarsest axis. In a cubic box shell s is the s-th of RELION's.
        """
        step = 1 / max(n * a for n, a in zip(shape, voxel_size, strict=True))
        last = int(0.5 / max(voxel_size) / step + 1e-6)
        frequencies = [np.fft.fftfreq(n, a) for n, a in zip(shape[:2], voxel_size[:2], strict=True)]
        along_x = np.fft.rfftfreq(shape[2], voxel_size[2])
        squared = frequencies[0][:, None, None] ** 2 + frequencies[1][:, None] ** 2 + along_x**2
        index = np.minimum(np.rint(np.sqrt(squared) / step), last).astype(np.intp)
        weight = np.full(index.shape, 2, dtype=np.float32)
        weight[..., 0] = 1
        if shape[2] % 2 == 0:
            weight[..., -1] = 1
        return cls(index, weight, np.arange(last + 1, dtype=np.float64) * float(step), shape)
