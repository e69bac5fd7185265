"""Columns of the linear model of an image: projections of parts, and derivatives of the whole projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from occupy.particles.images import ParticleImages, transfer
from occupy.particles.slices import Band, FourierVolumes, Pairs, Plane, coefficients_of, fourier_volumes

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Task = TypeVar("Task")
Result = TypeVar("Result")

BLOCK = 32
"""Images per block: their columns stay in a core's cache. Sums are taken block by block in one order, so
results do not depend on threads."""

NUISANCES = ("scale", "shift x", "shift y", "rotation x", "rotation y", "rotation z", "defocus")
"""What is off by a small unknown amount in each image: relative, Å, Å, radians about the image's axes, Å."""


@dataclass(frozen=True, eq=False)
class Block:
    """Images of one optics group, as far as they are used.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Their numbers.
    group : int
        Their optics group.
    coefficients : ndarray of float32, shape (n, M, 2)
        Of the images, moved to the origin by the shifts given.
    ctf, slope : ndarray of float32, shape (n, M)
        Contrast transfer function and its derivative with respect to defocus (1/Å).
    """

    rows: Rows
    group: int
    coefficients: Pairs
    ctf: npt.NDArray[np.float32]
    slope: npt.NDArray[np.float32]


def blocks(group: npt.NDArray[np.int64], rows: Rows | None = None) -> list[Rows]:
    """Divide images, or some of them, into blocks of one optics group each."""
    rows = np.arange(len(group), dtype=np.int64) if rows is None else rows
    found = []
    for number in range(int(group.max()) + 1):
        chosen = rows[group[rows] == number]
        found += [chosen[start : start + BLOCK] for start in range(0, len(chosen), BLOCK)]
    return found


def in_order(work: Callable[[Task], Result], tasks: Sequence[Task], threads: int) -> Iterator[Result]:
    """Do work with threads, and yield results in the order of the tasks, few at a time."""
    if threads == 1:
        yield from map(work, tasks)
        return
    with ThreadPoolExecutor(threads) as pool:
        left = iter(tasks)
        running = [pool.submit(work, task) for task in islice(left, 2 * threads)]
        while running:
            yield running.pop(0).result()
            running += [pool.submit(work, task) for task in islice(left, 1)]


def read_block(images: ParticleImages, band: Band, rows: Rows) -> Block:
    """Read images and keep what is used of them."""
    coefficients = coefficients_of(images.source.read(rows), band, images.shifts[rows])
    ctf, slope = transfer(images.ctf[rows], band.frequency_xy)
    return Block(rows, int(images.group[rows[0]]), coefficients, ctf, slope)


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


def with_derivatives(
    block: Block, band: Band, plane: Plane, matrices: Array, volumes: FourierVolumes,
    factor: npt.NDArray[np.float32],
) -> Pairs:  # fmt: skip
    """Projection of the core, its derivatives (`NUISANCES`), and the rest's projection.

    The first column is the projection itself, which is its derivative with respect to the scale's
    logarithm.

    Parameters
    ----------
    block : Block
        The images; the band may be coarser than theirs.
    band : Band
        What is used of them.
    plane : Plane
        Their slices.
    matrices : ndarray of float64, shape (n, 3, 3)
        Their poses.
    volumes : FourierVolumes
        From `whole_and_moments`.
    factor : ndarray of float32, shape (M,)
        Of each coefficient.

    Returns
    -------
    ndarray of float32, shape (n, M, 2, 8)
    """
    found = plane.of(volumes, factor)
    ctf, slope = (each[:, : len(band), None] for each in (block.ctf, block.slope))
    plain, moments = found[..., 0], found[..., 1:4]
    x, y = (band.k_xy.T.astype(np.float32))[:, :, None]
    out = np.empty((*found.shape[:3], 8), dtype=np.float32)
    out[..., 0] = plain
    # A factor i turns (real, imaginary) into (−imaginary, real).
    turned = np.stack([-plain[:, :, 1], plain[:, :, 0]], axis=2) * np.float32(2 * np.pi / band.side)
    out[..., 1], out[..., 2] = x * turned, y * turned
    # Gradient of the transform in the image's frame: the transform of −2πi r ρ, turned.
    turn = (-2 * np.pi * matrices.transpose(0, 2, 1)).astype(np.float32)
    both = np.stack([-moments[:, :, 1], moments[:, :, 0]], axis=2)
    gradient = (both.reshape(len(both), -1, 3) @ turn).reshape(both.shape)
    out[..., 3], out[..., 4] = -y * gradient[..., 2], x * gradient[..., 2]
    out[..., 5] = y * gradient[..., 0] - x * gradient[..., 1]
    out[..., 7] = found[..., 4]
    out[..., :6] *= ctf[..., None]
    out[..., 7] *= ctf
    out[..., 6] = plain * slope
    return out
