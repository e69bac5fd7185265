"""Mean and covariance of the parts' amplitudes over the particles, with the images' noise taken off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.particles.evidence import Evidence

Array = npt.NDArray[np.float64]

_PIECE = 2048
ROUNDS = 60
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


def fit_spread(evidence: Evidence, start: Spread | None = None, rounds: int = ROUNDS) -> Spread:
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
        for begin in range(0, len(evidence), _PIECE):
            rows = slice(begin, begin + _PIECE)
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
