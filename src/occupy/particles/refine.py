"""Small errors of pose, scale and defocus of each image: estimated, with priors learnt from all images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.particles.columns import NUISANCES, Poses, Rows, Setup, blocks, in_order
from occupy.particles.scaling import Scaling, real_pairs
from occupy.particles.slices import FourierVolumes

Array = npt.NDArray[np.float64]

START = (0.1, 2.0, 2.0, 0.035, 0.035, 0.035, 200.0)
"""Standard deviations (of `NUISANCES`) that learning starts from; errors of a refinement that converged."""


@dataclass(frozen=True, eq=False)
class Offsets:
    """Nuisance parameters of all images.

    Attributes
    ----------
    values : ndarray of float64, shape (N, 7)
        Posterior means, in the order of `NUISANCES`.
    spread : ndarray of float64, shape (7,)
        Standard deviations over images: the prior.
    left : ndarray of float64, shape (7,)
        Root mean square posterior standard deviation: what remains unknown.
    covariance : ndarray of float32, shape (N, 5, 5)
        Posterior covariance of shifts and rotations of each image.
    """

    values: Array
    spread: Array
    left: Array
    covariance: npt.NDArray[np.float32]

    def unmoved(self) -> Offsets:
        """Poses as given: nothing is corrected, and all of the prior remains unknown."""
        unknown = np.broadcast_to(np.diag(self.spread[1:6] ** 2), self.covariance.shape)
        return replace(self, values=0 * self.values, left=self.spread, covariance=unknown.astype(np.float32))


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


def moved(poses: Poses, offsets: Array) -> Poses:
    """Poses after shifts (Å) and rotations (radians, about the image's axes) of `NUISANCES`."""
    from scipy.spatial.transform import Rotation

    turned = Rotation.from_rotvec(offsets[:, 3:6]).as_matrix() @ poses.matrices
    return Poses(turned, poses.shifts + offsets[:, 1:3])


def refine(
    setup: Setup, poses: Poses, volumes: FourierVolumes, scaling: Scaling, rounds: int, threads: int,
    earlier: Offsets | None = None,
) -> Offsets:  # fmt: skip
    """Refine each image's nuisance parameters by Gauss-Newton steps, all with one prior.

    Parameters
    ----------
    setup : Setup
        Images and band.
    poses : Poses
        Where to start; the prior is centred here.
    volumes : FourierVolumes
        The whole and its moments (`whole_and_moments`).
    scaling : Scaling
        Of the whole.
    rounds : int
        Steps; after each the prior's variances are set to what they were found to be (one step of
        expectation-maximisation).
    threads : int
        How many.
    earlier : Offsets, optional
        Where to go on from.
    """
    count = len(setup.images)
    values, spread = np.zeros((count, len(NUISANCES))), np.array(START)
    if earlier is not None:
        values, spread = earlier.values, earlier.spread
    left, covariance = np.zeros(len(NUISANCES)), np.zeros((count, 5, 5), dtype=np.float32)
    tasks = blocks(setup.images.group)
    for _ in range(rounds):
        here = moved(poses, values)

        work = partial(_step, setup, here, volumes, scaling, values, spread)

        second, left = np.zeros(len(spread)), np.zeros(len(spread))
        updated = np.empty_like(values)
        for rows, found, posterior in in_order(work, tasks, threads):
            updated[rows], covariance[rows] = found, posterior[:, 1:6, 1:6]
            variance = np.diagonal(posterior, axis1=1, axis2=2)
            second += (found**2 + variance).sum(axis=0)
            left += variance.sum(axis=0)
        values, spread = updated, _symmetric(np.sqrt(second / count))
    return Offsets(values, spread, np.sqrt(left / count), covariance)


def _symmetric(spread: Array) -> Array:
    """Errors do not depend on the direction in an image: one value for shifts, one for rotations."""
    out = spread.copy()
    for part in (slice(1, 3), slice(3, 6)):
        out[part] = np.sqrt((spread[part] ** 2).mean())
    return out


def _step(
    setup: Setup,
    poses: Poses,
    volumes: FourierVolumes,
    scaling: Scaling,
    values: Array,
    spread: Array,
    rows: Rows,
) -> tuple[Rows, Array, Array]:  # fmt: skip
    """Posterior mean and covariance of a block's nuisance parameters, linearised at the present ones."""
    column, image = (
        each.astype(np.float32)
        for each in scaling.weights(int(setup.images.group[rows[0]]), setup.band.shell)
    )
    real = real_pairs(setup.whole(rows, poses, volumes) * column[:, None])
    seen = real_pairs((setup.observed(rows, poses) * image)[:, :, None])
    # Scale and defocus are not applied to the columns, so the model is linear in them from zero on.
    kept = np.array([0, 6])
    rest = seen[:, :, 0] - real[:, :, 0] - real[:, :, 7]
    real = real[:, :, :7]
    normal = (real.transpose(0, 2, 1) @ real).astype(np.float64)
    right = (real.transpose(0, 2, 1) @ rest[:, :, None])[:, :, 0].astype(np.float64)
    base = values[rows].copy()
    base[:, kept] = 0
    precision = np.diag(1 / np.maximum(spread, 1e-6 * np.array(START)) ** 2)
    cov: Array = np.linalg.inv(normal + precision).astype(np.float64)
    step = np.einsum("nij,nj->ni", cov, right - base @ precision)
    return rows, base + step, cov
