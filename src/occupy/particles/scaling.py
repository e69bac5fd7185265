"""Scale and noise of each shell and optics group, and mean occupancies, from sums over all images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from occupy.particles.columns import Block, in_order
from occupy.particles.poses import Seen
from occupy.particles.slices import Band, FourierVolumes, displaced, plane_of

Array = npt.NDArray[np.float64]

_ROUNDS = 50


@dataclass(frozen=True, eq=False)
class _ShellSums:
    """Sums over the images of each optics group and the coefficients of each shell.

    Attributes
    ----------
    products : ndarray of float64, shape (groups, shells, C, C)
        Of columns with columns.
    onto : ndarray of float64, shape (groups, shells, C)
        Of columns with images.
    power : ndarray of float64, shape (groups, shells)
        Of images.
    count : ndarray of float64, shape (groups, shells)
        Real numbers that were summed.
    """

    products: Array
    onto: Array
    power: Array
    count: Array


@dataclass(frozen=True, eq=False)
class Scaling:
    """What multiplies the columns in each shell, and how large the noise is.

    Attributes
    ----------
    scale : ndarray of float64, shape (groups, shells)
        Factor of the columns.
    noise : ndarray of float64, shape (groups, shells)
        Variance of the real and of the imaginary part.
    amplitudes : ndarray of float64, shape (C,)
        Mean amplitude of each part.
    """

    scale: Array
    noise: Array
    amplitudes: Array

    def weights(
        self, group: int, shell: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Factors for columns and for images, per coefficient, that make the noise's variance 1."""
        image = 1 / np.sqrt(self.noise[group])
        column = self.scale[group] * image
        return column.astype(np.float32)[shell], image.astype(np.float32)[shell]


def blur_of(variance: Array, band: Band) -> npt.NDArray[np.float32]:
    """Return the expected factor (n, shells, C) of parts placed to a variance in Å² (n, C) per axis."""
    exponent = 2 * (np.pi * band.shell_frequency) ** 2
    return np.exp(-(exponent[None, :, None] * variance[:, None, :])).astype(np.float32)


def shell_sums(
    blocks: Sequence[Block], band: Band, volumes: FourierVolumes, seen: Seen, threads: int
) -> _ShellSums:
    """Sum products of columns and images over blocks of images.

    Parameters
    ----------
    blocks : sequence of Block
        Of images.
    band : Band
        What is used of them.
    volumes : FourierVolumes
        The columns.
    seen : Seen
        At what poses, and how well these are known.
    threads : int
        How many.
    """
    groups, shells, count = 1 + max(block.group for block in blocks), band.shells, volumes.count
    products, onto = np.zeros((groups, shells, count, count)), np.zeros((groups, shells, count))
    power, numbers = np.zeros((groups, shells)), np.zeros((groups, shells))
    edges = np.searchsorted(band.shell, np.arange(shells + 1))

    def work(block: Block) -> tuple[Block, Array]:
        return block, _products(block, band, volumes, seen, edges)

    for block, out in in_order(work, blocks, threads):
        group = block.group
        products[group] += out[:, :count, :count]
        onto[group] += out[:, :count, count]
        power[group] += out[:, count, count]
        numbers[group] += 2 * len(block.rows) * np.diff(edges)
    return _ShellSums(products, onto, power, numbers)


def _products(
    block: Block, band: Band, volumes: FourierVolumes, seen: Seen, edges: npt.NDArray[np.intp]
) -> Array:
    """Products of the columns and the image in each shell, summed over a block: (shells, C + 1, C + 1)."""
    matrices, shifts = seen.poses(block.rows)
    columns = plane_of(band.k_xy, matrices, volumes).of(volumes, block.ctf)
    images = displaced(block.coefficients, band, shifts)[..., None]
    blur = None if seen.variance is None else blur_of(seen.variance[block.rows], band)
    if blur is not None and seen.outside.any():
        columns[..., seen.outside] *= np.take(blur[:, :, seen.outside], band.shell, axis=1)[:, :, None]
        blur[:, :, seen.outside] = 1
    # All real numbers of a shell, of all images of the block, are rows of one matrix.
    both = np.concatenate([columns, images], axis=3)
    count = volumes.count
    out = np.empty((len(edges) - 1, count + 1, count + 1))
    for shell, (start, stop) in enumerate(pairwise(edges.tolist())):
        each = both[:, start:stop].reshape(len(both), -1, count + 1)
        flat = each.reshape(-1, count + 1)
        out[shell] = flat.T @ flat
        if blur is not None:
            dots = (each[:, :, :count].transpose(0, 2, 1) @ each[:, :, count:])[:, :, 0]
            out[shell, :count, count] = (dots * blur[:, shell]).sum(axis=0, dtype=np.float64)
    return out


def fit_scaling(sums: _ShellSums) -> Scaling:
    """Fit scale and noise per shell and group, and amplitudes of all parts, alternately.

    Amplitudes are normalised to a mean of 1, weighted with the parts' power: they are relative.
    """
    parts = sums.onto.shape[2]
    amplitudes = np.ones(parts)
    # An optics group without images has nothing to scale.
    there = sums.count > 0
    for _ in range(_ROUNDS):
        model = np.einsum("i,gsij,j->gs", amplitudes, sums.products, amplitudes)
        overlap = sums.onto @ amplitudes
        scale = np.divide(overlap, model, out=np.zeros_like(model), where=there)
        noise = np.divide(sums.power - scale * overlap, sums.count, out=np.ones_like(model), where=there)
        weight = scale / noise
        normal = np.einsum("gs,gsij->ij", scale * weight, sums.products)
        right = np.einsum("gs,gsi->i", weight, sums.onto)
        amplitudes = np.linalg.solve(normal, right)
        amplitudes /= amplitudes @ np.diag(normal) / np.trace(normal)
    return Scaling(scale, noise, amplitudes)
