"""What each image says about its parts: gradient and curvature of its log-likelihood.

And what all say together: mean and covariance of the parts' amplitudes, with the images' noise taken off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from occupy.particles.columns import Block, Rows, with_derivatives
from occupy.particles.refine import Model, step
from occupy.particles.scaling import Extent, blur_of, displacement_variance, inflated, turned
from occupy.particles.slices import FourierVolumes, Pairs, displaced, plane_of

Array = npt.NDArray[np.float64]
Real = npt.NDArray[np.float32]

_PIECE = 2048
_LEAST_SPREAD = 1e-9


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
    particle : ndarray of int64, shape (N,), optional
        Which images are one and the same, as after symmetry expansion; by default none.
    copies : ndarray of float64, shape (C,), optional
        In how many entries of a particle a part is another copy of it; by default one.
    """

    gradient: Real
    curvature: Real
    amplitudes: Array
    particle: Rows | None = None
    copies: Array | None = None

    def __len__(self) -> int:
        return len(self.gradient)

    @property
    def parts(self) -> int:
        """Number of parts."""
        return int(self.gradient.shape[1])

    @cached_property
    def share(self) -> float:
        """What each entry counts: particles over entries."""
        return 1.0 if self.particle is None else len(np.unique(self.particle)) / len(self)

    @property
    def part_shares(self) -> Array:
        """What each entry counts for each part (C,): copies over entries."""
        return np.minimum(self.share * (np.ones(self.parts) if self.copies is None else self.copies), 1)

    def per_particle(self, values: Array) -> Array:
        """Sum values of entries (N, …) over those of each particle."""
        if self.particle is None:
            return values
        order = np.argsort(self.particle, kind="stable")
        return np.asarray(
            np.add.reduceat(values[order], np.flatnonzero(np.diff(self.particle[order], prepend=-1)))
        )

    @cached_property
    def onto(self) -> Real:
        """Gradient at zero amplitudes: images projected onto the parts, (N, C)."""
        return self.gradient + self.times(self.amplitudes)

    def matrices(self, rows: slice | Rows = slice(None)) -> Array:
        """Curvature of images as symmetric matrices (n, C, C)."""
        return symmetric(self.curvature[rows].astype(np.float64), self.parts)

    def times(self, away: Array) -> Real:
        """Curvature of every image times one vector (C,): (N, C)."""
        out = np.empty((len(self), self.parts), dtype=np.float32)
        for rows in self.pieces():
            out[rows] = self.matrices(rows) @ away
        return out

    def pieces(self) -> list[slice]:
        """Divide the images into pieces that fit into memory in double precision."""
        return [slice(start, start + _PIECE) for start in range(0, len(self), _PIECE)]

    def of(self, rows: slice | Rows) -> Evidence:
        """Evidence of some of the images."""
        particle = None if self.particle is None else self.particle[rows]
        return Evidence(self.gradient[rows], self.curvature[rows], self.amplitudes, particle, self.copies)

    def recentred(self, amplitudes: Array) -> Evidence:
        """Return the same evidence about other mean amplitudes."""
        gradient = self.gradient - self.times(amplitudes - self.amplitudes)
        return replace(self, gradient=gradient, amplitudes=amplitudes)

    def about_its_mean(self) -> Evidence:
        """Return the same evidence about the amplitudes that explain all images best."""
        total = symmetric(self.curvature.sum(axis=0, dtype=np.float64)[None], self.parts)[0]
        away = np.linalg.solve(total, self.gradient.sum(axis=0, dtype=np.float64))
        return self.recentred(self.amplitudes + away)

    def softened(self, covariance: Array) -> Evidence:
        """Evidence where amplitudes vary by a covariance (C, C) that says nothing of what is there."""
        gradient, curvature = np.empty_like(self.gradient), np.empty_like(self.curvature)
        upper = np.triu_indices(self.parts)
        for rows in self.pieces():
            matrices = self.matrices(rows)
            both = np.concatenate([matrices, self.gradient[rows, :, None]], axis=2)
            solved = np.linalg.solve(np.eye(self.parts) + matrices @ covariance, both)
            gradient[rows], curvature[rows] = solved[:, :, -1], solved[:, *upper]
        return replace(self, gradient=gradient, curvature=curvature)


def symmetric(upper: Array, parts: int) -> Array:
    """Symmetric matrices (n, C, C) of their upper triangles (n, C (C + 1) / 2)."""
    first, second = np.triu_indices(parts)
    found = np.empty((len(upper), parts, parts))
    found[:, first, second] = upper
    found[:, second, first] = upper
    return found


@dataclass(frozen=True, eq=False)
class Fitted:
    """Everything that is known of all images before parts are looked at one image at a time.

    Attributes
    ----------
    whole : Model
        The parts that are always there, the rest, and their scaling.
    parts : FourierVolumes
        Each part.
    extent : Extent
        Of the parts.
    spread : ndarray of float64, shape (7,)
        Standard deviation of what is off in each image.
    inflation : ndarray of float64, shape (5,)
        Variance of shifts and rotations over what their posterior says.
    outside : ndarray of bool, shape (C,)
        Parts that do not take part in finding the poses.
    rounds : tuple of float
        Å to which each step of finding a pose looks; none where poses stay as they are.
    """

    whole: Model
    parts: FourierVolumes
    extent: Extent
    spread: Array
    inflation: Array
    outside: npt.NDArray[np.bool_]
    rounds: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class BlockEvidence:
    """What a block of images tells.

    Attributes
    ----------
    gradient, curvature : ndarray of float32, shapes (n, C) and (n, C (C + 1) / 2)
        As in `Evidence`.
    offsets, left : ndarray of float32, shape (n, 7)
        What is off (`occupy.particles.columns.NUISANCES`), and its posterior variance.
    normal, right : ndarray of float64, shapes (C, C) and (C,)
        Normal equations of the mean amplitudes.
    """

    gradient: Real
    curvature: Real
    offsets: Real
    left: Real
    normal: Array
    right: Array


def evidence_of_block(block: Block, matrices: Array, fitted: Fitted) -> BlockEvidence:
    """Find the poses of a block's images, and what the images say about the parts.

    Parameters
    ----------
    block : Block
        Of n images.
    matrices : ndarray of float64, shape (n, 3, 3)
        Poses as given.
    fitted : Fitted
        What was learnt.
    """
    whole, spread = fitted.whole, fitted.spread
    values = np.zeros((len(matrices), len(spread)))
    posterior = np.broadcast_to(np.diag(spread**2), (len(matrices), len(spread), len(spread)))
    for resolution in fitted.rounds:
        coarse = replace(whole, band=whole.band.down_to(resolution))
        values, posterior = step(block, matrices, coarse, values, spread)
    here = turned(matrices, values)
    covariance = inflated(posterior[:, 1:6, 1:6], fitted.inflation)
    variance = displacement_variance(covariance, here, fitted.extent)
    columns, nuisance, seen = whitened(block, here, values, fitted)
    gradient, curvature, normal, right = _marginal(columns, nuisance, seen, values, variance, fitted)
    upper = np.triu_indices(len(right))
    left = np.diagonal(posterior, axis1=1, axis2=2)
    return BlockEvidence(
        gradient.astype(np.float32), curvature[:, *upper].astype(np.float32), values.astype(np.float32),
        left.astype(np.float32), normal, right,
    )  # fmt: skip


def whitened(block: Block, here: Array, values: Array, fitted: Fitted) -> tuple[Pairs, Pairs, Pairs]:
    """Columns of parts (n, M, 2, C), of what may be off (n, 2M, 6), and images (n, 2M, 1), noise 1."""
    whole = fitted.whole
    column, image = whole.scaling.weights(block.group, whole.band.shell)
    plane = plane_of(whole.band.k_xy, here, fitted.parts)
    columns = plane.of(fitted.parts, block.ctf * column)
    nuisance = with_derivatives(block, whole.band, plane, here, whole.volumes, column)[..., 1:7]
    seen = displaced(block.coefficients, whole.band, values[:, 1:3]) * image[:, None]
    count = len(here)
    return columns, nuisance.reshape(count, -1, 6), seen.reshape(count, -1, 1)


def _marginal(
    columns: Pairs, nuisance: Pairs, seen: Pairs, values: Array, variance: Array, fitted: Fitted
) -> tuple[Array, Array, Array, Array]:
    """Gradient and curvature of images, what may be off marginalised; normal equations of amplitudes."""
    band, outside = fitted.whole.band, fitted.outside
    amplitudes = fitted.whole.scaling.amplitudes
    count = len(amplitudes)
    blur = np.take(blur_of(variance, band), band.shell, axis=1)
    # A part that found no pose is seen as far as the pose is known; one that did, as in the step of
    # expectation-maximisation, with its expected column onto the image only.
    columns[..., outside] *= blur[:, :, None, outside]
    expected = columns.copy()
    expected[..., ~outside] *= blur[:, :, None, ~outside]
    flat = columns.reshape(len(columns), -1, count)
    onto = (expected.reshape(flat.shape).transpose(0, 2, 1) @ seen)[:, :, 0].astype(np.float64)
    both = np.concatenate([flat, nuisance], axis=2)
    products = (both.transpose(0, 2, 1) @ both).astype(np.float64)
    normal, cross, inner = (
        products[:, :count, :count],
        products[:, :count, count:],
        products[:, count:, count:],
    )
    pull = (nuisance.transpose(0, 2, 1) @ seen)[:, :, 0] - amplitudes @ cross
    # The scale (index 0) stays: it is the direction of the mean amplitudes. Defocus is not moved.
    precision = 1 / np.maximum(fitted.spread[1:], _LEAST_SPREAD) ** 2
    base = values[:, 1:] * (np.arange(6) < 5)
    solved = np.linalg.solve(inner + np.diag(precision), cross.transpose(0, 2, 1))
    gradient = onto - normal @ amplitudes - np.einsum("nij,ni->nj", solved, pull - base * precision)
    return gradient, normal - cross @ solved, normal.sum(axis=0), onto.sum(axis=0)


_ROUNDS = 60
"""Steps of expectation-maximisation. Parts with little information have not quite converged by then: their
variance is too large rather than too small."""


@dataclass(frozen=True, eq=False)
class Spread:
    """Distribution of amplitudes over particles.

    Attributes
    ----------
    mean : ndarray of float64, shape (C,)
        Relative to the mean amplitudes of the evidence: 0 where these are right.
    covariance : ndarray of float64, shape (C, C)
        Of the particles' amplitudes.
    """

    mean: Array
    covariance: Array


def fit_spread(evidence: Evidence, start: Spread | None = None, rounds: int = _ROUNDS) -> Spread:
    """Fit a normal distribution of amplitudes by expectation-maximisation.

    Parameters
    ----------
    evidence : Evidence
        Of N images.
    start : Spread, optional
        Where to begin; by default independent parts, each absent in a quarter of the particles.
    rounds : int
        Steps.
    """
    if start is None:
        start = Spread(np.zeros(evidence.parts), np.diag(0.25 * evidence.amplitudes**2 + 1e-6))
    mean, covariance = start.mean, start.covariance
    for _ in range(rounds):
        first, second = np.zeros_like(mean), np.zeros_like(covariance)
        for rows in evidence.pieces():
            found, left = _posterior(evidence, rows, mean, covariance)
            first += found.sum(axis=0)
            second += found.T @ found + left
        mean = first / len(evidence)
        covariance = second / len(evidence) - np.outer(mean, mean)
    return Spread(mean, covariance)


def _posterior(evidence: Evidence, rows: slice, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Posterior means of the amplitudes of images, and the sum of their posterior covariances."""
    curvature = evidence.matrices(rows)
    ahead = np.eye(len(mean)) + covariance @ curvature
    left = np.linalg.solve(ahead, np.broadcast_to(covariance, curvature.shape))
    found = mean + np.einsum("nij,nj->ni", left, evidence.gradient[rows] - curvature @ mean)
    return found, left.sum(axis=0)


def false_spread(evidence: Evidence, spread: Spread, constant: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Relative variances of the amplitudes of parts that are always there: in common, and each by itself.

    Contrast of an image, poses that are further off than thought and densities that do not fit let
    amplitudes vary where nothing comes or goes. Second moments of the gradients tell by how much: with K
    the curvature and T the covariance of amplitudes their expectation is K + K T K.

    Parameters
    ----------
    evidence : Evidence
        Of N images.
    spread : Spread
        Of the amplitudes; that of the parts that are not always there is marginalised.
    constant : ndarray of bool, shape (C,)
        Parts that are always there.
    """
    others = spread.covariance * np.outer(~constant, ~constant)
    scale = evidence.amplitudes[constant]
    found, expected = np.zeros(2), np.zeros((2, 2))
    for rows in evidence.pieces():
        matrices = evidence.matrices(rows)
        both = np.concatenate([matrices[:, :, constant], evidence.gradient[rows, :, None]], axis=2)
        solved = np.linalg.solve(np.eye(evidence.parts) + matrices @ others, both)[:, constant]
        gradient, curvature = solved[:, :, -1] * scale, solved[:, :, :-1] * np.outer(scale, scale)
        sums = curvature.sum(axis=2)
        found[0] += float((gradient.sum(axis=1) ** 2).sum() - sums.sum())
        found[1] += float((gradient**2).sum() - np.trace(curvature, axis1=1, axis2=2).sum())
        cross = float((sums**2).sum())
        expected += [[float((sums.sum(axis=1) ** 2).sum()), cross], [cross, float((curvature**2).sum())]]
    return _not_negative(found, expected)


def _not_negative(found: Array, expected: Array) -> tuple[float, float]:
    """Solve for two variances; where one would be negative, for the other alone."""
    common, single = np.linalg.lstsq(expected, found, rcond=None)[0]
    if common < 0:
        common, single = 0.0, found[1] / max(expected[1, 1], 1e-30)
    elif single < 0:
        common, single = found[0] / max(expected[0, 0], 1e-30), 0.0
    return max(float(common), 0.0), max(float(single), 0.0)
