"""How much of what classes share is there in each of them, free of their noise; and what of it is no chance.

At each place class k is taken to show o_k times a pattern that all classes share. Products of different
classes, averaged over a small neighbourhood, then hold o_k o_l P without any noise, as noise of different
classes is independent. A class's product with itself holds o_k² P plus its noise, which is known from the
solvent; it enters with a smaller weight, and alone tells of a part that one class has and no other.

Where classes truly agree their ratios still scatter: by noise, by small misalignments, by unequal fall-off.
How much is seen in the data: most places of most particles do not change, so the commonest scatter is that
of no difference (an empirical null, Efron, J. Am. Stat. Assoc. 99, 96, 2004).

What a fully occupied part reads is the uppermost high peak of the readings within content.

Classes that lie elsewhere than the others are told by shift and rotation against the mean of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import gaussian_filter1d

from occupy import tuning
from occupy.ensemble.execution import Execution, Storage
from occupy.ensemble.scaling import ScaledMaps
from occupy.errors import Notice
from occupy.numerics.parallel import one_blas_thread
from occupy.numerics.smoothing import scipy_smoothed

Array = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.floating]


def _products(
    maps: Array,
    total: Array,
    weights: Numbers,
    noise: Numbers,
    sigma: Sequence[float],
    out: Array,
) -> Array:
    """Return each class's local product with the weighted sum of all.

    Parameters
    ----------
    maps : ndarray, shape (K, z, y, x)
    total : ndarray
        Σ_l a_l m_l.
    weights : ndarray, shape (K,)
        a_l.
    noise : ndarray, shape (K,)
        Variance of each class's noise.
    sigma : sequence of float
        Voxels.
    out : ndarray, shape (K, z, y, x)
        Filled with n_k = Gσ(m_k (Σ_l a_l m_l − a_k m_k)) + λ a_k max(Gσ(m_k²) − noise_k, 0).
    """
    for k, a in enumerate(weights):
        square = scipy_smoothed(maps[k] ** 2, sigma)
        out[k] = scipy_smoothed(maps[k] * total, sigma) - a * square
        out[k] += tuning.SET.same_class_weight * a * np.maximum(square - noise[k], 0)
    return out


def _relative_amplitudes(
    out: Array, weights: Numbers, highest: float | None = None, rounds: int = 40
) -> tuple[Array, Array]:
    """Solve n_k = o_k (Σ_l a_l o_l − (1 − λ) a_k o_k) at every voxel.

    Parameters
    ----------
    out : ndarray, shape (K, z, y, x)
        n_k, from `_products`; overwritten with o_k divided by their weighted mean.
    weights : ndarray, shape (K,)
        a_k, with a sum of 1.
    highest : float, optional
        Highest product of any class anywhere, where ``out`` is a part of the whole.
    rounds : int
        Of the iteration.

    Returns
    -------
    ratio, mean : ndarray
        The ratios (``out``), and the weighted mean Σ a_k o_k (z, y, x).
    """
    a = weights.astype(np.float32).reshape(-1, 1, 1, 1)
    scale = max((float(one.max()) for one in out), default=0.0) if highest is None else highest
    floor = np.float32(1e-3 * np.sqrt(max(scale, 1e-30)))
    n = np.maximum(out, 0)
    o = np.sqrt(n / np.maximum(a, 1e-6))
    for _ in range(rounds):
        # Half of the step: the whole one swings between two answers where one class stands alone.
        rest = np.maximum((a * o).sum(axis=0) - (1 - tuning.SET.same_class_weight) * a * o, floor)
        o = 0.5 * o + 0.5 * n / rest
    mean = (a * o).sum(axis=0)
    out[:] = o / np.maximum(mean, floor)
    return out, mean


@dataclass(frozen=True)
class Null:
    """Scatter where classes agree.

    Attributes
    ----------
    level : float
        Commonest mean square of standardised differences, at least 1.
    width : float
        Standard deviation of its logarithm, from the side below.
    """

    level: float
    width: float

    def threshold(self, places: float) -> float:
        """Return the scatter that about one of so many independent places without difference exceeds."""
        from scipy.stats import norm

        return float(self.level * np.exp(norm.isf(1 / max(places, 2.0)) * self.width))

    @classmethod
    def of(cls, scatter: Numbers) -> Null:
        """Find the lowest high peak of the logarithm of a scatter, and its width below.

        Parameters
        ----------
        scatter : ndarray
            Mean square of standardised differences at every place of the content.
        """
        logs = np.log(np.clip(scatter, 1e-3, 1e6))
        counts, edges = np.histogram(logs, bins=240, range=(np.log(1e-3), np.log(1e6)))
        centres = (edges[1:] + edges[:-1]) / 2
        smooth = gaussian_filter1d(
            counts.astype(np.float64), tuning.SET.null_bandwidth / (centres[1] - centres[0])
        )
        inner = smooth[1:-1]
        peaks = np.flatnonzero(
            (inner >= smooth[:-2]) & (inner > smooth[2:]) & (inner > tuning.SET.null_peak * smooth.max())
        )
        mode = float(centres[peaks[0] + 1]) if peaks.size else float(np.median(logs))
        # Differences only add scatter: below the peak there is chance alone.
        below = logs[logs < mode]
        width = float(np.sqrt(np.mean((below - mode) ** 2))) if below.size else 0.3
        return cls(float(np.clip(np.exp(mode), 1.0, tuning.SET.most_null)), min(max(width, 0.1), 1.0))


def shrinkage_weight(scatter: Numbers, null: Null) -> npt.NDArray[np.float32]:
    """Return the share of each place's differences to keep: max(0, 1 − null/scatter) (James and Stein)."""
    return np.clip(1 - null.level / np.maximum(scatter, 1e-9), 0, 1).astype(np.float32)


def compare(scaled: ScaledMaps, weights: Numbers, execution: Execution) -> tuple[Storage, Array]:
    """Return each class's local amplitude relative to the mean, and the highest of any class."""
    count, shape = len(scaled.maps), scaled.maps.shape
    shared = execution.storage(count, shape)
    top = max(execution.each("comparing", _products_one, (scaled, weights, shared), count))
    ratios = execution.storage(count, shape)
    size = int(np.prod(shape))
    # So many numbers of all maps are held at a time.
    span = max(1, min(size, (1 << 22) // count))
    solving = (shared, ratios, weights, top, span)
    highest = list(execution.each("solving", _amplitudes_of_span, solving, -(-size // span)))
    shared.clear()
    return ratios, np.concatenate(highest).reshape(shape)


def _products_one(shared: tuple[ScaledMaps, Numbers, Storage], k: int) -> float:
    scaled, weights, out = shared
    one = np.empty((1, *scaled.maps.shape), dtype=np.float32)
    sigma = scaled.voxels(tuning.SET.product_window)
    _products(scaled.maps[k][None], scaled.total, weights[k : k + 1], scaled.noise[k : k + 1], sigma, one)
    out[k] = one[0]
    return float(one.max())


def _amplitudes_of_span(shared: tuple[Any, ...], i: int) -> Array:
    """Solve for the amplitudes of all classes in a stretch of voxels; return the highest at each voxel."""
    storage, out, weights, top, span = shared
    size = int(np.prod(storage.shape))
    values = storage.span(i * span, min((i + 1) * span, size))
    # Steps that stay in cache.
    step = max(1, (1 << 15) // len(values))
    for start in range(0, values.shape[1], step):
        _relative_amplitudes(values[:, None, None, start : start + step], weights, top)
    out.put_span(i * span, values)
    highest: Array = values.max(axis=0)
    return highest


def conserved_region(scaled: ScaledMaps, ratios: Storage, execution: Execution) -> Array:
    """Return a soft mask of what all classes share.

    A class's commonest ratio is its grey scale; where all classes are near theirs, nothing differs.
    """
    power = power_of_mean(scaled)
    content = power > tuning.SET.conserved_power * float(np.quantile(power, 0.995))
    (distance,), _ = execution.folded("matching", _distance_one, (ratios, content), len(ratios), np.maximum)
    near = content & (distance < max(tuning.SET.conserved, float(np.quantile(distance[content], 0.1))))
    return scipy_smoothed(near, scaled.voxels(tuning.SET.product_window))


def _distance_one(shared: tuple[Storage, npt.NDArray[np.bool_]], k: int) -> tuple[tuple[Array, ...], None]:
    ratios, content = shared
    logs = np.log(np.maximum(ratios[k], 1e-3))
    return (np.abs(logs - _commonest(logs[content])),), None


def _commonest(logs: Array) -> float:
    """Return the position of the highest peak of a histogram."""
    counts, edges = np.histogram(logs, bins=200, range=(-3, 3))
    smooth = gaussian_filter1d(counts.astype(np.float64), 2)
    return float(edges[int(np.argmax(smooth))] + 0.015)


def power_of_mean(scaled: ScaledMaps) -> Array:
    """Return the local power of the mean map."""
    return scipy_smoothed(scaled.total**2, scaled.voxels(tuning.SET.product_window))


def ratio_variance(scaled: ScaledMaps, power: Array, ratio: Array, k: int) -> Array:
    """Return the variance that noise alone would give the ratio of class ``k``, by its misfit nearby."""
    misfit = scipy_smoothed(
        (scaled.maps[k] - ratio * scaled.total) ** 2, scaled.voxels(tuning.SET.residual_window)
    )
    independent = max(1.0, (4 * np.pi) ** 1.5 * (tuning.SET.product_window / (scaled.resolution / 2)) ** 3)
    floor = 1e-6 * float(power.max())
    return np.asarray(misfit / np.maximum(power, floor) / independent, dtype=np.float32)


def scatter_of(scaled: ScaledMaps, ratios: Storage, execution: Execution) -> Array:
    """Return the mean square of standardised differences from the mean, pooled over a neighbourhood."""
    power = power_of_mean(scaled)
    (total,), _ = execution.folded("scatter", _scatter_one, (scaled, power, ratios), len(ratios))
    total /= len(ratios) - 1
    sigma = scaled.voxels(tuning.SET.evidence_window)
    weight = np.maximum(scipy_smoothed(power, sigma), 1e-6 * float(power.max()))
    return np.asarray(scipy_smoothed(total * power, sigma) / weight, dtype=np.float32)


def _scatter_one(shared: tuple[ScaledMaps, Array, Storage], k: int) -> tuple[tuple[Array, ...], None]:
    scaled, power, ratios = shared
    ratio = ratios[k]
    expected = np.maximum(ratio_variance(scaled, power, ratio, k), 1e-6)
    return (np.asarray((ratio - 1) ** 2 / expected, dtype=np.float32),), None


@dataclass(frozen=True)
class FullLevel:
    """What full material reads.

    Attributes
    ----------
    value : float
        In the units of the map.
    spread : float
        Relative standard deviation of the readings of full regions.
    """

    value: float
    spread: float

    @classmethod
    def of(cls, values: npt.NDArray[np.floating]) -> FullLevel:
        """Find the uppermost high peak of readings within content: that of full material.

        Parameters
        ----------
        values : ndarray
            Positive readings of the best class at every voxel of the content.
        """
        logs = np.log(np.maximum(values, 1e-30))
        top = float(logs.max())
        counts, edges = np.histogram(logs, bins=400, range=(top - 3, top + 0.3))
        centres = (edges[1:] + edges[:-1]) / 2
        step = float(centres[1] - centres[0])
        smooth = gaussian_filter1d(counts.astype(np.float64), tuning.SET.bandwidth / step)
        inner = smooth[1:-1]
        peaks = 1 + np.flatnonzero((inner >= smooth[:-2]) & (inner > smooth[2:]))
        if not peaks.size:
            return cls(float(np.exp(np.median(logs))), 0.1)
        peak = int(peaks[smooth[peaks] > tuning.SET.full_peak * smooth[peaks].max()][-1])
        beyond = np.flatnonzero(smooth[peak:] <= smooth[peak] / 2)
        half_width = (int(beyond[0]) if beyond.size else len(smooth) - 1 - peak) * step
        # 1.177 σ is half the width of a Gaussian at half its height; the smoothing added its own.
        above = np.sqrt(max((half_width / 1.177) ** 2 - tuning.SET.bandwidth**2, 0.02**2))
        spread = max(
            tuning.SET.region_spread * above, tuning.SET.spread_below * _spread_below(logs - centres[peak])
        )
        return cls(float(np.exp(centres[peak])), float(np.clip(spread, 0.04, 0.16)))


def content_of(reading: Array, density: Array) -> npt.NDArray[np.bool_]:
    """Return the voxels that lie in content, away from its halo."""
    high = float(np.quantile(reading, 0.995))
    inside: npt.NDArray[np.bool_] = (density > tuning.SET.core * reading) & (
        reading > tuning.SET.content * high
    )
    return inside


def _spread_below(logs: npt.NDArray[np.floating]) -> float:
    """Return the spread of those near a peak (at 0) that lie below it: full material of unlike kinds."""
    below = logs[(logs > np.log(tuning.SET.near_peak)) & (logs < 0)]
    return float(np.sqrt(np.mean(below**2))) if below.size else 0.0


@dataclass(frozen=True)
class _Pose:
    """How a map lies against a reference: shift (Å), rotation (degrees), correlation once both are undone."""

    shift: float
    angle: float
    agreement: float


@one_blas_thread()
def _pose_of(data: Array, reference: Array, voxel_size: tuple[float, float, float]) -> _Pose:
    """Find how a map is shifted and turned against a reference of the same content.

    A whole-voxel shift is found by cross-correlation; then the difference is fitted by the reference's
    derivatives along six rigid motions and its grey scale, exact for motions much smaller than the
    resolution.

    Parameters
    ----------
    data, reference : ndarray, shape (z, y, x)
    voxel_size : tuple of float
        Å along z, y, x.
    """
    shape = reference.shape
    cross = scipy.fft.irfftn(scipy.fft.rfftn(data) * np.conj(scipy.fft.rfftn(reference)), s=shape)
    peak = np.array(np.unravel_index(int(np.argmax(cross)), shape))
    whole = np.where(peak > np.array(shape) // 2, peak - np.array(shape), peak)
    moved = np.roll(data, tuple(-whole), axis=(0, 1, 2))
    # The grey scale is fitted too: a weaker class must not read as one that moved.
    design = _motions(reference, voxel_size)
    # Where the reference is weak, a part that this class lacks would count as motion.
    inside = reference > 0.25 * float(np.quantile(reference, 0.995))
    rows = design[:, inside]
    target = moved[inside]
    normal = rows @ rows.T
    # A round particle turns without changing: a ridge keeps such motions at 0.
    fit = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(7), rows @ target)
    residual = target - fit @ rows
    agreement = 1 - float(residual.var() / max(float(target.var()), 1e-30))
    gain = fit[0] if abs(fit[0]) > 1e-6 else 1e-6
    shift = whole * np.array(voxel_size) - fit[1:4] / gain
    return _Pose(
        float(np.linalg.norm(shift)),
        float(np.degrees(np.linalg.norm(fit[4:] / gain))),
        float(np.sqrt(max(agreement, 0.0))),
    )


def _motions(reference: Array, voxel_size: tuple[float, float, float]) -> Array:
    """Return the reference and its derivatives along shifts (per Å) and rotations (per radian)."""
    slopes = np.gradient(reference, *voxel_size)
    axes = np.meshgrid(
        *(np.arange(n) * a for n, a in zip(reference.shape, voxel_size, strict=True)), indexing="ij"
    )
    weight = np.maximum(reference, 0)
    centre = np.array([float((x * weight).sum() / max(float(weight.sum()), 1e-30)) for x in axes])
    z, y, x = (axis - c for axis, c in zip(axes, centre, strict=True))
    dz, dy, dx = slopes
    turns = (y * dx - x * dy, x * dz - z * dx, z * dy - y * dz)
    return np.array([reference, dz, dy, dx, *turns], dtype=np.float32)


def pose_notices(
    scaled: ScaledMaps,
    names: tuple[str, ...],
    weights: npt.NDArray[np.float64],
    execution: Execution | None = None,
) -> list[Notice]:
    """Return notices about classes that are shifted, turned or unlike the mean of the others."""
    found = []
    poses = (execution or Execution()).each("alignment", _pose_one, (scaled, weights), len(names))
    for name, pose in zip(names, poses, strict=True):
        text = None
        if pose.agreement < tuning.COMPONENTS.least_agreement:
            text = (
                f"{name} hardly agrees with the other classes (correlation {pose.agreement:.2f}): "
                "another hand, orientation or particle?"
            )
        elif (
            pose.shift > max(tuning.COMPONENTS.most_shift, scaled.resolution / 5)
            or pose.angle > tuning.COMPONENTS.most_angle
        ):
            text = (
                f"{name} lies {pose.shift:.1f} Å and {pose.angle:.1f}° away from the other classes: "
                "align them first, for example with fitmap in ChimeraX"
            )
        if text:
            found.append(Notice("misaligned", text + "; its occupancies can't be trusted"))
    return found


def _pose_one(shared: tuple[ScaledMaps, npt.NDArray[np.float64]], k: int) -> _Pose:
    scaled, weights = shared
    one = scaled.maps[k]
    rest = np.float32(max(1 - weights[k], 1e-6))
    others = (scaled.total - np.float32(weights[k]) * one) / rest
    return _pose_of(one, np.asarray(others, dtype=np.float32), scaled.voxel_size)
