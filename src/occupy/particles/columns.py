"""Columns of the linear model of an image: projections of parts, and derivatives of the whole projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from occupy.particles.ctf import transfer
from occupy.particles.images import ParticleImages
from occupy.particles.slices import Band, Complex, FourierVolumes, coefficients_of, fourier_volumes

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Result = TypeVar("Result")

BLOCK = 64
"""Images per block. Sums are taken block by block in one order, so results do not depend on threads."""

NUISANCES = ("scale", "shift x", "shift y", "rotation x", "rotation y", "rotation z", "defocus")
"""What is off by a small unknown amount in each image: relative, Å, Å, radians about the image's axes, Å."""


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses of all images, which may be refined.

    Attributes
    ----------
    matrices : ndarray of float64, shape (N, 3, 3)
        From volume to image coordinates.
    shifts : ndarray of float64, shape (N, 2)
        Å.
    """

    matrices: Array
    shifts: Array


def blocks(group: npt.NDArray[np.int64]) -> list[Rows]:
    """Divide images into blocks of one optics group each."""
    found = []
    for number in range(int(group.max()) + 1):
        rows = np.flatnonzero(group == number).astype(np.int64)
        found += [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    return found


def in_order(work: Callable[[Rows], Result], tasks: list[Rows], threads: int) -> Iterator[Result]:
    """Do work on blocks with threads, and yield results in the order of the blocks, few at a time."""
    if threads == 1:
        yield from map(work, tasks)
        return
    with ThreadPoolExecutor(threads) as pool:
        left = iter(tasks)
        running = [pool.submit(work, task) for task in islice(left, 2 * threads)]
        while running:
            yield running.pop(0).result()
            running += [pool.submit(work, task) for task in islice(left, 1)]


def whole_and_moments(
    core_zyx: npt.NDArray[np.float32], others_zyx: npt.NDArray[np.float32], last: int
) -> FourierVolumes:
    """Transform what finds the poses, its products with x, y and z (in units of the side), and the rest.

    Parameters
    ----------
    core_zyx : ndarray of float32, shape (m, m, m)
        What is taken to be there in every particle.
    others_zyx : ndarray of float32, shape (m, m, m)
        Everything else, at its mean amplitude.
    last : int
        Highest frequency that will be asked for.
    """
    size = len(core_zyx)
    along = ((np.arange(size) - size // 2) / size).astype(np.float32)
    axes = (along, along[:, None], along[:, None, None])
    return fourier_volumes([core_zyx, *(core_zyx * axis for axis in axes), others_zyx], last)


@dataclass(frozen=True, eq=False)
class Setup:
    """Images, the band used of them, and volumes: everything columns are made of.

    Attributes
    ----------
    images : ParticleImages
        The images.
    band : Band
        Coefficients that are used.
    """

    images: ParticleImages
    band: Band

    def observed(self, rows: Rows, poses: Poses) -> Complex:
        """Fourier coefficients of images, moved to the origin: (n, M)."""
        return coefficients_of(self.images.source.read(rows), self.band, poses.shifts[rows])

    def projections(self, rows: Rows, poses: Poses, volumes: FourierVolumes) -> Complex:
        """Projections of volumes as the microscope shows them: (n, M, C)."""
        ctf, _ = transfer(self.images.ctf[rows], self.band.frequency_xy)
        return volumes.slices(self.band.k_xy, poses.matrices[rows]) * ctf.astype(np.float32)[:, :, None]

    def whole(self, rows: Rows, poses: Poses, volumes: FourierVolumes) -> Complex:
        """Projection of the core, its derivatives (`NUISANCES`), and the rest's projection: (n, M, 8).

        The first column is the projection itself, which is its derivative with respect to the scale's
        logarithm.
        """
        band, matrices = self.band, poses.matrices[rows]
        ctf, slope = (each.astype(np.float32) for each in transfer(self.images.ctf[rows], band.frequency_xy))
        found = volumes.slices(band.k_xy, matrices)
        plain, moments, rest = found[:, :, 0], found[:, :, 1:4], found[:, :, 4]
        # Gradient of the transform in the image's frame: the transform of −2πi r ρ, turned.
        gradient = (-2j * np.pi * moments @ matrices.transpose(0, 2, 1)).astype(np.complex64)
        x, y = band.k_xy.T.astype(np.float32)
        turned = (
            -y * gradient[:, :, 2],
            x * gradient[:, :, 2],
            y * gradient[:, :, 0] - x * gradient[:, :, 1],
        )
        moved = tuple(np.complex64(2j * np.pi / band.side) * axis * plain for axis in (x, y))
        columns = [column * ctf for column in (plain, *moved, *turned)]
        return np.stack([*columns, plain * slope, rest * ctf], axis=2)
