"""Mean and covariance of the parts' amplitudes over the particles, with the images' noise taken off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.particles.evidence import Evidence

Array = npt.NDArray[np.float64]

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
