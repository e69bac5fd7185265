"""Small errors of pose, scale and defocus of each image: estimated, with priors learnt from many images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag

from occupy.particles.columns import NUISANCES, Block, in_order, with_derivatives
from occupy.particles.scaling import Scaling, turned
from occupy.particles.slices import Band, FourierVolumes, displaced, plane_of

Array = npt.NDArray[np.float64]

_START = (0.1, 2.0, 2.0, 0.035, 0.035, 0.035, 200.0)
"""Standard deviations (of `NUISANCES`) that learning starts from; errors of a refinement that converged."""


@dataclass(frozen=True, eq=False)
class Model:
    """What images are compared with.

    Attributes
    ----------
    band : Band
        Coefficients that are used.
    volumes : FourierVolumes
        The whole and its moments (`occupy.particles.columns.whole_and_moments`).
    scaling : Scaling
        Of each shell.
    others : FourierVolumes, optional
        Parts that may be absent. Where they are, an image differs from the mean, and that must not be taken
        for an error of its pose.
    deviation : ndarray of float64, shape (others, others), optional
        Covariance of their amplitudes over the particles.
    """

    band: Band
    volumes: FourierVolumes
    scaling: Scaling
    others: FourierVolumes | None = None
    deviation: Array | None = None


@dataclass(frozen=True, eq=False)
class Offsets:
    """Nuisance parameters of images.

    Attributes
    ----------
    values : ndarray of float64, shape (N, 7)
        Posterior means, in the order of `NUISANCES`.
    covariance : ndarray of float32, shape (N, 5, 5)
        Posterior covariance of shifts and rotations of each image.
    spread : ndarray of float64, shape (7,)
        Standard deviations over images: the prior.
    left : ndarray of float64, shape (7,)
        Root mean square posterior standard deviation: what remains unknown.
    """

    values: Array
    covariance: npt.NDArray[np.float32]
    spread: Array
    left: Array

    def unmoved(self) -> Offsets:
        """Poses as given: nothing is corrected, and all of the prior remains unknown."""
        unknown = np.broadcast_to(np.diag(self.spread[1:6] ** 2), self.covariance.shape)
        return replace(self, values=0 * self.values, left=self.spread, covariance=unknown.astype(np.float32))


def no_offsets(count: int) -> Offsets:
    """Before anything is known."""
    spread, none = np.array(_START), np.zeros((count, 5, 5), dtype=np.float32)
    return Offsets(np.zeros((count, len(NUISANCES))), none, spread, spread)


def refine(
    blocks: Sequence[Block], matrices: Array, model: Model, offsets: Offsets, rounds: Sequence[float],
    threads: int,
) -> Offsets:  # fmt: skip
    """Refine nuisance parameters by Gauss-Newton steps, all with one prior, which is learnt.

    Parameters
    ----------
    blocks : sequence of Block
        Of images.
    matrices : ndarray of float64, shape (N, 3, 3)
        Poses as given, where the prior is centred.
    model : Model
        The whole.
    offsets : Offsets
        Where to go on from.
    rounds : sequence of float
        Å to which each step looks. After each the prior's variances are set to what they were found to be
        (one step of expectation-maximisation).
    threads : int
        How many.
    """
    values, covariance = offsets.values.copy(), offsets.covariance.copy()
    spread, left = offsets.spread, offsets.left
    for resolution in rounds:
        coarse = replace(model, band=model.band.down_to(resolution))

        def work(block: Block, coarse: Model = coarse, spread: Array = spread) -> tuple[Block, Array, Array]:
            return block, *step(block, matrices[block.rows], coarse, values[block.rows], spread)

        second, unknown, count = np.zeros(len(spread)), np.zeros(len(spread)), 0
        for block, found, posterior in in_order(work, blocks, threads):
            values[block.rows], covariance[block.rows] = found, posterior[:, 1:6, 1:6]
            variance = np.diagonal(posterior, axis1=1, axis2=2)
            second += (found**2 + variance).sum(axis=0)
            unknown += variance.sum(axis=0)
            count += len(found)
        spread, left = _symmetric(np.sqrt(second / count)), np.sqrt(unknown / count)
    return Offsets(values, covariance, spread, left)


def _symmetric(spread: Array) -> Array:
    """Errors do not depend on the direction in an image: one value for shifts, one for tilts of its plane."""
    out = spread.copy()
    for part in (slice(1, 3), slice(3, 5)):
        out[part] = np.sqrt((spread[part] ** 2).mean())
    return out


def overconfidence(
    blocks: Sequence[Block], matrices: Array, model: Model, spread: Array, rounds: Sequence[float],
    threads: int,
) -> Array:  # fmt: skip
    """Measure how much larger the errors of shifts and rotations are than their posterior covariance says.

    Poses are found from every other coefficient, and from the rest. Their noise is independent; so with the
    prior S and posterior covariances U, V the difference has the covariance
    (S − U) + (S − V) − 2 (S − U) S⁻¹ (S − V), were everything linear.

    Returns
    -------
    ndarray of float64, shape (5,)
        Variance found over variance expected; at least 1. Both shifts share one, as do both tilts.
    """

    def work(block: Block) -> tuple[Array, Array]:
        halves = [_from_half(block, matrices[block.rows], model, spread, rounds, half) for half in (0, 1)]
        prior = spread[1:6] ** 2
        (one, u), (other, v) = halves
        known_u, known_v = prior - u, prior - v
        expected = known_u + known_v - 2 * known_u * known_v / np.maximum(prior, 1e-30)
        return ((one - other) ** 2).sum(axis=0), np.maximum(expected, 0).sum(axis=0)

    found, expected = np.sum(list(in_order(work, blocks, threads)), axis=0)
    joined = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]], dtype=np.float64)
    ratio = (joined @ found) / np.maximum(joined @ expected, 1e-30)
    return np.asarray(np.maximum(ratio, 1.0)[[0, 0, 1, 1, 2]])


def _from_half(
    block: Block, matrices: Array, model: Model, spread: Array, rounds: Sequence[float], half: int
) -> tuple[Array, Array]:
    """Shifts and rotations of a block, and their posterior variances, from every other coefficient."""
    values = np.zeros((len(matrices), len(spread)))
    for resolution in rounds:
        coarse = replace(model, band=model.band.down_to(resolution))
        values, covariance = step(block, matrices, coarse, values, spread, half)
    return values[:, 1:6], np.diagonal(covariance, axis1=1, axis2=2)[:, 1:6]


def step(
    block: Block, matrices: Array, model: Model, values: Array, spread: Array, half: int | None = None
) -> tuple[Array, Array]:
    """Posterior mean and covariance of a block's nuisance parameters, linearised at the present ones.

    All coefficients are used, or every other one from the first or the second.
    """
    band = model.band
    here = turned(matrices, values)
    column, image = model.scaling.weights(block.group, band.shell)
    if half is not None:
        used = np.arange(len(band)) % 2 == half
        column, image = column * used, image * used
    plane = plane_of(band.k_xy, here, model.volumes)
    columns = with_derivatives(block, band, plane, here, model.volumes, column)
    seen = displaced(block.coefficients[:, : len(band)], band, values[:, 1:3]) * image[:, None]
    rest = (seen - columns[..., 0] - columns[..., 7]).reshape(len(seen), -1, 1)
    columns = columns[..., :7]
    precision = np.diag(1 / np.maximum(spread, 1e-6 * np.array(_START)) ** 2)
    if model.others is not None and model.deviation is not None:
        columns = np.concatenate(
            [columns, plane.of(model.others, block.ctf[:, : len(band)] * column)], axis=3
        )
        precision = block_diag(precision, np.linalg.inv(model.deviation))
    columns = columns.reshape(len(seen), -1, len(precision))
    normal = (columns.transpose(0, 2, 1) @ columns).astype(np.float64)
    right = (columns.transpose(0, 2, 1) @ rest)[:, :, 0].astype(np.float64)
    # Scale and defocus are not applied to the columns, so the model is linear in them from zero on.
    base = np.zeros((len(seen), len(precision)))
    base[:, 1:6] = values[:, 1:6]
    covariance: Array = np.linalg.inv(normal + precision).astype(np.float64)
    found = base + np.einsum("nij,nj->ni", covariance, right - base @ precision)
    return found[:, :7], covariance[:, :7, :7]
