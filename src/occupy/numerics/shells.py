"""Fourier space in shells: sums, products and gains per shell, for maps of any box and voxel size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SOFT_EDGE = 0.3
"""Width of a soft low-pass, as a share of its cut-off frequency: it passes half at the cut-off."""


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

    def soft_lowpass(self, resolution: float) -> npt.NDArray[np.float32]:
        """Return the share of each shell that a soft low-pass at `resolution` (Å) keeps: a raised cosine."""
        x = (self.frequency * resolution - (1 - SOFT_EDGE / 2)) / SOFT_EDGE
        return (0.5 + 0.5 * np.cos(np.pi * np.clip(x, 0, 1))).astype(np.float32)


def shells_of(shape: tuple[int, int, int], voxel_size: tuple[float, float, float]) -> Shells:
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
    return Shells(index, weight, np.arange(last + 1, dtype=np.float64) * float(step), shape)
