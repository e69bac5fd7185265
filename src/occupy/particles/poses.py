"""Poses that are off by a little, and where that leaves the parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def turned(matrices: Array, offsets: Array) -> Array:
    """Rotations after small ones (radians, about the image's axes; columns 3 to 5 of `NUISANCES`)."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(offsets[:, 3:6]).as_matrix() @ matrices)


@dataclass(frozen=True, eq=False)
class Seen:
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
