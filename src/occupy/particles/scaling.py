"""Scale and noise of each shell and optics group, and mean occupancies, from sums over all images."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from occupy.particles.columns import Poses, Rows, Setup, blocks, in_order
from occupy.particles.slices import Complex, FourierVolumes

Array = npt.NDArray[np.float64]

ROUNDS = 50


@dataclass(frozen=True, eq=False)
class ShellSums:
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

    def weights(self, group: int, shell: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        """Factors for columns and for images, per coefficient, that make the noise's variance 1."""
        image = 1 / np.sqrt(self.noise[group][shell])
        return self.scale[group][shell] * image, image


def real_pairs(values: Complex) -> npt.NDArray[np.float32]:
    """View of complex numbers (n, M, C) as real rows (n, 2M, C)."""
    n, m, c = values.shape
    pairs = np.ascontiguousarray(values).view(np.float32).reshape(n, m, c, 2)
    return np.asarray(pairs.transpose(0, 1, 3, 2).reshape(n, 2 * m, c))


def blur_of(variance: Array, setup: Setup) -> Array:
    """Return the expected factor (n, shells, C) of parts placed to a variance in Å² (n, C) per axis."""
    exponent = 2 * (np.pi * setup.band.shell_frequency) ** 2
    return np.asarray(np.exp(-exponent[None, :, None] * variance[:, None, :]))


def shell_sums(
    setup: Setup, poses: Poses, volumes: FourierVolumes, threads: int, variance: Array | None = None,
    outside: npt.NDArray[np.bool_] | None = None,
) -> ShellSums:  # fmt: skip
    """Sum products of columns and images over all images.

    Parameters
    ----------
    setup : Setup
        Images and band.
    poses : Poses
        Of all images.
    volumes : FourierVolumes
        The columns.
    threads : int
        How many.
    variance : ndarray of float64, shape (N, C), optional
        Å² by which each part's place in each image is uncertain: images are multiplied with the expected
        column, as in expectation-maximisation; otherwise fitting a pose to noise would look like signal.
    outside : ndarray of bool, shape (C,), optional
        Parts that did not take part in finding the poses. Their columns are the expected ones everywhere.
    """
    groups, shells, count = setup.images.groups, setup.band.shells, volumes.count
    products, onto = np.zeros((groups, shells, count, count)), np.zeros((groups, shells, count))
    power, numbers = np.zeros((groups, shells)), np.zeros((groups, shells))
    edges = np.searchsorted(setup.band.shell, np.arange(shells + 1))

    def work(rows: Rows) -> tuple[int, Array, Array]:
        columns = setup.projections(rows, poses, volumes)
        both = np.concatenate([columns, setup.observed(rows, poses)[:, :, None]], axis=2)
        blur = None if variance is None else blur_of(variance[rows], setup)
        # All real numbers of a shell, of all images of the block, are rows of one matrix.
        real = real_pairs(both)
        if blur is not None and outside is not None:
            real[:, :, :count][:, :, outside] *= np.repeat(
                blur[:, setup.band.shell][:, :, outside], 2, axis=1
            )
            blur[:, :, outside] = 1
        out = np.empty((shells, count + 1, count + 1))
        for shell, (start, stop) in enumerate(pairwise(edges.tolist())):
            part = real[:, 2 * start : 2 * stop].reshape(-1, count + 1).astype(np.float64)
            out[shell] = part.T @ part
            if blur is not None:
                each = real[:, 2 * start : 2 * stop]
                dots = (each[:, :, :count] * each[:, :, count:]).sum(axis=1, dtype=np.float64)
                out[shell, :count, count] = (dots * blur[:, shell]).sum(axis=0)
        return int(setup.images.group[rows[0]]), out, 2 * len(rows) * np.diff(edges)

    for group, out, numbers_of in in_order(work, blocks(setup.images.group), threads):
        products[group] += out[:, :count, :count]
        onto[group] += out[:, :count, count]
        power[group] += out[:, count, count]
        numbers[group] += numbers_of
    return ShellSums(products, onto, power, numbers)


def fit_scaling(sums: ShellSums) -> Scaling:
    """Fit scale and noise per shell and group, and amplitudes of all parts, alternately.

    Amplitudes are normalised to a mean of 1, weighted with the parts' power: they are relative.
    """
    parts = sums.onto.shape[2]
    amplitudes = np.ones(parts)
    for _ in range(ROUNDS):
        model = np.einsum("i,gsij,j->gs", amplitudes, sums.products, amplitudes)
        overlap = sums.onto @ amplitudes
        scale = overlap / model
        noise = (sums.power - scale * overlap) / sums.count
        weight = scale / noise
        normal = np.einsum("gs,gsij->ij", scale * weight, sums.products)
        right = np.einsum("gs,gsi->i", weight, sums.onto)
        amplitudes = np.linalg.solve(normal, right)
        amplitudes /= amplitudes @ np.diag(normal) / np.trace(normal)
    return Scaling(scale, noise, amplitudes)
