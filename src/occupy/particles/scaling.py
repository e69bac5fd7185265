"""What many images tell together: scale and noise of shells, mean occupancies, how far poses are off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.particles.columns import Block, in_order
from occupy.particles.slices import Band, FourierVolumes, displaced, plane_of


def turned(matrices: Array, offsets: Array) -> Array:
    """Rotations after small ones (radians, about the image's axes; columns 3 to 5 of `NUISANCES`)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(offsets[:, 3:6]).as_matrix() @ matrices)


@dataclass(frozen=True, eq=False)
class RefinedPoses:
    """Poses as they are thought to be, and how far parts may still be off.

    Attributes
    ----------
    matrices : ndarray of float64, shape (N, 3, 3)
        As given.
    offsets : ndarray of float64, shape (N, 7)
        What was found to be off; `occupy.particles.columns.NUISANCES`.
    outside : ndarray of bool, shape (C,)
        Parts that did not take part in finding the offsets. Their columns are the expected ones everywhere.
    variance : ndarray of float64, shape (N, C), optional
        Å² by which each part's place in each image is uncertain: images are multiplied with the expected
        column, as in expectation-maximisation; otherwise fitting a pose to noise would look like signal.
    """

    matrices: Array
    offsets: Array
    outside: npt.NDArray[np.bool_]
    variance: Array | None = None

    def poses(self, rows: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        """Rotations (n, 3, 3) of images, and what to add to their shifts (n, 2) in Å."""
        offsets = self.offsets[rows]
        return turned(self.matrices[rows], offsets), offsets[:, 1:3]


@dataclass(frozen=True, eq=False)
class Extent:
    """Where parts are and how far they reach.

    Attributes
    ----------
    centre : ndarray of float64, shape (C, 3)
        x, y, z in Å from the box's centre.
    second : ndarray of float64, shape (C, 3, 3)
        Second moments about it in Å².
    """

    centre: Array
    second: Array


def extent_of(volumes_zyx: npt.NDArray[np.float32], voxel_size: float) -> Extent:
    """Extent of the positive density of volumes (C, m, m, m)."""
    along = (np.arange(volumes_zyx.shape[1]) - volumes_zyx.shape[1] // 2) * voxel_size
    centres, seconds = [], []
    for volume in volumes_zyx:
        # Ripples of the band limit are far from the part and would count as part of it.
        z, y, x = np.nonzero(volume > 0.2 * volume.max())
        points, weight = along[np.stack([x, y, z], axis=1)], volume[z, y, x].astype(np.float64)
        centre = weight @ points / weight.sum()
        centres.append(centre)
        seconds.append(((points - centre).T * weight) @ (points - centre) / weight.sum())
    return Extent(np.array(centres), np.array(seconds))


def inflated(covariance: npt.NDArray[Any], inflation: Array) -> npt.NDArray[Any]:
    """Covariances (n, 5, 5) of shifts and rotations with their variances multiplied (5,)."""
    factor = np.sqrt(inflation)
    return np.asarray(covariance * np.outer(factor, factor))


def displacement_variance(covariance: npt.NDArray[Any], matrices: Array, extent: Extent) -> Array:
    """Mean variance (Å², per axis of the image) of where a part is, given how well its image's pose is known.

    Parameters
    ----------
    covariance : ndarray of float32 or float64, shape (n, 5, 5)
        Of shifts and rotations.
    matrices : ndarray of float64, shape (n, 3, 3)
        Poses.
    extent : Extent
        Of C parts.

    Returns
    -------
    ndarray of float64, shape (n, C)
        Half the trace of the covariance of −shift + ω × r, averaged over the part.
    """
    x, y, z = np.moveaxis(np.einsum("nab,cb->nca", matrices, extent.centre), 2, 0)
    none, one = np.zeros_like(x), np.ones_like(x)
    along_x = np.stack([-one, none, none, z, -y], axis=2)
    along_y = np.stack([none, -one, -z, none, x], axis=2)
    variance = sum(np.einsum("nci,nij,ncj->nc", each, covariance, each) for each in (along_x, along_y))
    turned = np.einsum("nab,cbd,ned->ncae", matrices, extent.second, matrices)
    second = np.trace(turned, axis1=2, axis2=3)[..., None] - np.diagonal(turned, axis1=2, axis2=3)
    # Rotations about x move along y by z, about y along x by z, about z along both.
    planes = np.stack([turned[..., 2, 2], turned[..., 2, 2], second[..., 2]], axis=2)
    spins = np.diagonal(covariance[:, 2:, 2:], axis1=1, axis2=2)
    return np.asarray((variance + np.einsum("nca,na->nc", planes, spins)) / 2)


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
    blocks: Sequence[Block], band: Band, volumes: FourierVolumes, seen: RefinedPoses, threads: int
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
    seen : RefinedPoses
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
    block: Block, band: Band, volumes: FourierVolumes, seen: RefinedPoses, edges: npt.NDArray[np.intp]
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
