"""What each image says about its parts: gradient and curvature of its log-likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.particles.columns import Poses, Rows, Setup, blocks, in_order
from occupy.particles.refine import Extent, Offsets, displacement_variance
from occupy.particles.scaling import Scaling, blur_of, real_pairs
from occupy.particles.slices import FourierVolumes

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Log-likelihood of each image as a quadratic function of its parts' amplitudes.

    With x the difference of an image's amplitudes from the mean ones, its log-likelihood is
    ``gradient @ x − x @ curvature @ x / 2`` and a constant. Errors of pose and defocus are marginalised.

    Attributes
    ----------
    gradient : ndarray of float32, shape (N, C)
        At the mean amplitudes.
    curvature : ndarray of float32, shape (N, C (C + 1) / 2)
        Upper triangles, row by row: the Fisher information.
    amplitudes : ndarray of float64, shape (C,)
        The mean amplitudes.
    """

    gradient: npt.NDArray[np.float32]
    curvature: npt.NDArray[np.float32]
    amplitudes: Array

    def __len__(self) -> int:
        return len(self.gradient)

    @property
    def parts(self) -> int:
        """Number of parts."""
        return int(self.gradient.shape[1])

    def matrices(self, rows: slice | Rows = slice(None)) -> Array:
        """Curvature of images as symmetric matrices (n, C, C)."""
        upper = np.triu_indices(self.parts)
        found = np.zeros((len(self.curvature[rows]), self.parts, self.parts))
        found[:, upper[0], upper[1]] = self.curvature[rows]
        found[:, upper[1], upper[0]] = self.curvature[rows]
        return found

    def of(self, rows: slice | Rows) -> Evidence:
        """Evidence of some of the images."""
        return Evidence(self.gradient[rows], self.curvature[rows], self.amplitudes)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Everything that is known of all images before parts are looked at one image at a time.

    Attributes
    ----------
    poses : Poses
        Refined.
    offsets : Offsets
        What was refined, and how far off it may still be.
    scaling : Scaling
        Scale and noise per shell; mean amplitudes.
    outside : ndarray of bool, shape (C,)
        Parts that did not take part in finding the poses.
    """

    poses: Poses
    offsets: Offsets
    scaling: Scaling
    outside: npt.NDArray[np.bool_]


def evidence_of(
    setup: Setup, fitted: Fitted, parts: FourierVolumes, whole: FourierVolumes, extent: Extent, threads: int
) -> Evidence:
    """Evidence of all images.

    Parameters
    ----------
    setup : Setup
        Images and band.
    fitted : Fitted
        From `occupy.particles.pipeline`.
    parts, whole : FourierVolumes
        Each part; their sum at the mean amplitudes, with its moments.
    extent : Extent
        Of the parts.
    threads : int
        How many.
    """
    count = parts.count
    gradient = np.empty((len(setup.images), count), dtype=np.float32)
    curvature = np.empty((len(setup.images), count * (count + 1) // 2), dtype=np.float32)

    def work(rows: Rows) -> tuple[Rows, Array, Array]:
        return rows, *_block(setup, rows, fitted, parts, whole, extent)

    for rows, first, second in in_order(work, blocks(setup.images.group), threads):
        gradient[rows], curvature[rows] = first, second
    return Evidence(gradient, curvature, fitted.scaling.amplitudes)


def _block(
    setup: Setup, rows: Rows, fitted: Fitted, parts: FourierVolumes, whole: FourierVolumes, extent: Extent
) -> tuple[Array, Array]:
    scaling, poses, offsets = fitted.scaling, fitted.poses, fitted.offsets
    column, image = (
        each.astype(np.float32)
        for each in scaling.weights(int(setup.images.group[rows[0]]), setup.band.shell)
    )
    columns = real_pairs(setup.projections(rows, poses, parts) * column[:, None])
    nuisance = real_pairs(setup.whole(rows, poses, whole)[:, :, 1:7] * column[:, None])
    seen = real_pairs((setup.observed(rows, poses) * image)[:, :, None])
    variance = displacement_variance(offsets.covariance[rows], poses.matrices[rows], extent)
    blur = np.repeat(blur_of(variance, setup)[:, setup.band.shell], 2, axis=1).astype(np.float32)
    # A part that found no pose is seen as far as the pose is known; one that did, as in the step of
    # expectation-maximisation, with its expected column onto the image only.
    columns[:, :, fitted.outside] *= blur[:, :, fitted.outside]
    blur[:, :, fitted.outside] = 1
    normal = (columns.transpose(0, 2, 1) @ columns).astype(np.float64)
    right = ((columns * blur).transpose(0, 2, 1) @ seen)[:, :, 0].astype(np.float64)
    first = right - normal @ scaling.amplitudes
    cross = (columns.transpose(0, 2, 1) @ nuisance).astype(np.float64)
    inner = (nuisance.transpose(0, 2, 1) @ nuisance).astype(np.float64)
    rest = seen[:, :, 0] - columns @ scaling.amplitudes.astype(np.float32)
    pull = (nuisance.transpose(0, 2, 1) @ rest[:, :, None])[:, :, 0].astype(np.float64)
    # The scale (index 0) stays: it is the direction of the mean amplitudes. Defocus is not moved.
    precision = 1 / np.maximum(offsets.spread[1:], 1e-9) ** 2
    base = offsets.values[rows, 1:] * (np.arange(6) < 5)
    solved = np.linalg.solve(inner + np.diag(precision), cross.transpose(0, 2, 1))
    first -= np.einsum("nij,ni->nj", solved, pull - base * precision)
    second = normal - cross @ solved
    upper = np.triu_indices(len(scaling.amplitudes))
    return first, second[:, *upper]
