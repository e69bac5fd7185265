"""What the estimator needs to know of a set of particles, whatever program wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from occupy.particles.ctf import Ctf

Images = npt.NDArray[np.float32]


class _ImageSource(Protocol):
    """Anything that returns images by their number."""

    def read(self, rows: npt.NDArray[np.int64]) -> Images:
        """Return images of the rows, shape (n, size, size); rows are y, columns x."""


@dataclass(frozen=True, eq=False)
class _Some:
    """Some images of a source."""

    source: _ImageSource
    rows: npt.NDArray[np.int64]

    def read(self, rows: npt.NDArray[np.int64]) -> Images:
        """Return images of the rows."""
        return self.source.read(self.rows[rows])


@dataclass(frozen=True, eq=False)
class ParticleImages:
    """Images at known poses.

    Attributes
    ----------
    source : ImageSource
        Returns images by their number.
    size : int
        Pixels along each side.
    pixel_size : float
        Å.
    matrices : ndarray of float64, shape (N, 3, 3)
        Rotations that take volume to image coordinates (`occupy.particles.slices.rotations`).
    shifts : ndarray of float64, shape (N, 2)
        x, y in Å that bring a particle to the centre of its image (RELION's origin).
    ctf : Ctf
        Of each image.
    group : ndarray of int64, shape (N,)
        Optics group of each image, from 0.
    particle : ndarray of int64, shape (N,), optional
        Which images are one and the same, as after symmetry expansion; by default none.
    half : ndarray of int64, shape (N,), optional
        0 or 1: which half of the data an image is in, where halves were refined apart.
    """

    source: _ImageSource
    size: int
    pixel_size: float
    matrices: npt.NDArray[np.float64]
    shifts: npt.NDArray[np.float64]
    ctf: Ctf
    group: npt.NDArray[np.int64]
    particle: npt.NDArray[np.int64] | None = None
    half: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.shifts)

    def of(self, rows: npt.NDArray[np.int64]) -> ParticleImages:
        """Return some of the images."""
        return ParticleImages(
            _Some(self.source, rows), self.size, self.pixel_size, self.matrices[rows], self.shifts[rows],
            self.ctf[rows], self.group[rows],
        )  # fmt: skip

    @property
    def side(self) -> float:
        """Side of an image in Å."""
        return self.size * self.pixel_size

    @property
    def groups(self) -> int:
        """Number of optics groups."""
        return int(self.group.max()) + 1
