"""How much of what classes share is there in each of them, place by place, free of their noise.

At each place class k is taken to show o_k times a pattern that all classes share. Products of different
classes, averaged over a small neighbourhood, then hold o_k o_l P without any noise, as noise of different
classes is independent. A class's product with itself holds o_k² P plus its noise, which is known from the
solvent; it enters with a smaller weight, and alone tells of a part that one class has and no other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from occupy import tuning

Array = npt.NDArray[np.float32]

ROUNDS = 40
_PLANES = 8


def smoothed(data: npt.NDArray[np.floating] | npt.NDArray[np.bool_], sigma: Sequence[float]) -> Array:
    """Return a Gaussian average; nothing lies outside the map."""
    average: Array = gaussian_filter(np.asarray(data, dtype=np.float32), sigma, mode="constant", truncate=3)
    return average


def products(
    maps: Array,
    total: Array,
    weights: npt.NDArray[np.float64],
    noise: npt.NDArray[np.float64],
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
        square = smoothed(maps[k] ** 2, sigma)
        out[k] = smoothed(maps[k] * total, sigma) - a * square
        out[k] += tuning.SET.same_class_weight * a * np.maximum(square - noise[k], 0)
    return out


def relative_amplitudes(
    out: Array, weights: npt.NDArray[np.float64], highest: float | None = None
) -> tuple[Array, Array]:
    """Solve n_k = o_k (Σ_l a_l o_l − (1 − λ) a_k o_k) at every voxel.

    Parameters
    ----------
    out : ndarray, shape (K, z, y, x)
        n_k, from `products`; overwritten with o_k divided by their weighted mean.
    weights : ndarray, shape (K,)
        a_k, with a sum of 1.
    highest : float, optional
        Highest product of any class anywhere, where ``out`` is a part of the whole.

    Returns
    -------
    ratio, mean : ndarray
        The ratios (``out``), and the weighted mean Σ a_k o_k (z, y, x).
    """
    a = weights.astype(np.float32).reshape(-1, 1, 1, 1)
    mean = np.empty(out.shape[1:], dtype=np.float32)
    scale = max((float(one.max()) for one in out), default=0.0) if highest is None else highest
    floor = np.float32(1e-3 * np.sqrt(max(scale, 1e-30)))
    for start in range(0, out.shape[1], _PLANES):
        n = np.maximum(out[:, start : start + _PLANES], 0)
        o = np.sqrt(n / np.maximum(a, 1e-6))
        for _ in range(ROUNDS):
            rest = np.maximum((a * o).sum(axis=0) - (1 - tuning.SET.same_class_weight) * a * o, floor)
            o = 0.5 * o + 0.5 * n / rest
        level = (a * o).sum(axis=0)
        mean[start : start + _PLANES] = level
        out[:, start : start + _PLANES] = o / np.maximum(level, floor)
    return out, mean
