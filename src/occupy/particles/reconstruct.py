"""Maps from images at known poses: one of each state, by weighted back-projection in Fourier space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.particles.columns import blocks, in_order, read_block
from occupy.particles.images import ParticleImages
from occupy.particles.poses import turned
from occupy.particles.scaling import Scaling
from occupy.particles.slices import (
    Band,
    FourierVolumes,
    back_transformed,
    band_between,
    displaced,
    empty_volumes,
    plane_of,
)

Array = npt.NDArray[np.float64]
Real = npt.NDArray[np.float32]

_REGULAR = 0.1
"""Share of a shell's mean weight that is added to all its weights, so that what nobody sees stays 0."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Back-projections on the grid of padded transforms.

    Attributes
    ----------
    values : ndarray of float64, shape (grid points, 2)
        Of weighted images: real and imaginary parts.
    weights : ndarray of float64, shape (grid points,)
        Of squared transfer functions.
    """

    values: Array
    weights: Array


def reconstruct(
    images: ParticleImages,
    offsets: Real,
    scaling: Scaling,
    band: Band,
    rows: npt.NDArray[np.int64],
    threads: int,
) -> Real:
    """Reconstruct the map of some images.

    Parameters
    ----------
    images : ParticleImages
        All of them.
    offsets : ndarray of float32, shape (N, 7)
        What was found to be off in each (`occupy.particles.columns.NUISANCES`).
    scaling : Scaling
        Scale and noise of each shell of the band.
    band : Band
        Up to its finest shell the map is made.
    rows : ndarray of int64
        Which images.
    threads : int
        How many.

    Returns
    -------
    ndarray of float32, shape (m, m, m)
        With m voxels along the side of the images; the particle's density is positive.
    """
    # A check by eye needs no more than 4000 images.
    rows = rows[:: -(-len(rows) // 4_000)]
    whole = band_between(images.side, images.side, images.side / (band.last + 0.5))
    grid = empty_volumes(whole.last)
    shell = np.clip(whole.shell + whole.first - band.first, 0, band.shells - 1)

    def work(rows: npt.NDArray[np.int64]) -> Sums:
        return _projected_back(images, offsets, scaling, whole, shell, grid, rows)

    total: Sums | None = None
    for each in in_order(work, blocks(images.group, rows), threads):
        total = each if total is None else Sums(total.values + each.values, total.weights + each.weights)
    assert total is not None
    return back_transformed(total.values, total.weights, grid, _REGULAR)


def _projected_back(
    images: ParticleImages, offsets: Real, scaling: Scaling, band: Band, shell: npt.NDArray[np.int64],
    grid: FourierVolumes, rows: npt.NDArray[np.int64],
) -> Sums:  # fmt: skip
    """Back-projections of a block of images, and of their weights."""
    block, values = read_block(images, band, rows), offsets[rows].astype(np.float64)
    column, image = scaling.weights(block.group, shell)
    plane = plane_of(band.k_xy, turned(images.matrices[rows], values), grid)
    filtered = displaced(block.coefficients, band, values[:, 1:3]) * (block.ctf * column * image)[:, :, None]
    return Sums(plane.back(filtered), plane.back((block.ctf * column) ** 2))
