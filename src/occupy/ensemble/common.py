"""Common ground: bring the grey scale, the spectral fall-off and the resolution of class maps together.

Assumed: all classes show the same particle in the same place, so that what they share differs between them
only by a positive factor per shell, and their noise is independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from occupy import tuning

Numbers = npt.NDArray[np.float64]


def wiener_gains(ssnr: Sequence[Sequence[float]], shells: int) -> Numbers:
    """Return factors that bring every class to the shrinkage of the least certain one.

    A regularised reconstruction is the data times w = SSNR/(1 + SSNR), per class and shell. Multiplying by
    w_min/w_k leaves the same shrinkage in all classes and amplifies no noise.

    Parameters
    ----------
    ssnr : sequence of K sequences
        Spectral signal-to-noise ratio per shell; missing shells count as 0.
    shells : int
        Number of shells wanted.

    Returns
    -------
    ndarray, shape (K, shells)
        Within (0, 1]; 1 where a class holds nothing.
    """
    w = shrinkage(padded(ssnr, shells))
    least = w.min(axis=0)
    return np.where(w > tuning.SET.least_shrinkage, least / np.maximum(w, tuning.SET.least_shrinkage), 1.0)


def shrinkage(ssnr: Numbers) -> Numbers:
    """Return SSNR/(1 + SSNR)."""
    return ssnr / (1 + ssnr)


def padded(rows: Sequence[Sequence[float]], length: int) -> Numbers:
    """Return rows of numbers as an array, cut or filled with zeros to a length."""
    out = np.zeros((len(rows), length))
    for row, values in zip(out, rows, strict=True):
        n = min(len(values), length)
        row[:n] = np.nan_to_num(np.asarray(values[:n], dtype=np.float64), nan=0.0, posinf=1e30)
    return np.maximum(out, 0)


def resolution_of(ssnr: Numbers, frequency: Numbers) -> Numbers:
    """Return, per class, the resolution in Å where the signal-to-noise ratio falls below 0.3.

    Parameters
    ----------
    ssnr : ndarray, shape (K, shells)
    frequency : ndarray, shape (shells,)
        1/Å.

    Returns
    -------
    ndarray, shape (K,)
        Of the first shell from the second on that has too little; of the last shell where none has.
    """
    out = np.empty(len(ssnr))
    for k, row in enumerate(ssnr):
        low = np.flatnonzero(row[2:] < tuning.SET.enough_signal)
        shell = int(low[0]) + 2 if low.size else len(frequency) - 1
        out[k] = 1 / frequency[shell]
    return out


def factors_of_products(products: Numbers, weights: Numbers, rounds: int = 60) -> Numbers:
    """Return factors g_k of quantities that share one pattern, from products with the sum of all others.

    Solves n_k = g_k (Σ_l a_l g_l − a_k g_k) up to a common factor: products of different members only, which
    independent noise does not enter.

    Parameters
    ----------
    products : ndarray, shape (K, ...)
        n_k, the product of member k with the weighted sum of all others.
    weights : ndarray, shape (K,)
        a_l, positive.

    Returns
    -------
    ndarray, shape (K, ...)
        Not negative.
    """
    a = weights.reshape(-1, *[1] * (products.ndim - 1))
    g = np.sqrt(np.maximum(products, 0))
    floor = 1e-6 * max(float(g.max(initial=0)), 1e-300)
    for _ in range(rounds):
        rest = np.maximum((a * g).sum(axis=0) - a * g, floor)
        g = 0.5 * g + 0.5 * np.maximum(products, 0) / rest
    return g


def matched_gains(products: Numbers, powers: Numbers, weights: Numbers) -> Numbers:
    """Return factors per class and shell that bring what all classes share to one grey scale and fall-off.

    Parameters
    ----------
    products : ndarray, shape (K, shells)
        Cross-power of class k with the weighted sum of all others, within the conserved region.
    powers : ndarray, shape (K, shells)
        Power of each class there; used where there are two classes only, which one product can't tell apart.
    weights : ndarray, shape (K,)
        Of the classes in that sum.

    Returns
    -------
    ndarray, shape (K, shells)
        Smooth along shells, between 1/3 and 3, with a mean logarithm of 0 over the classes.
    """
    factor = np.sqrt(powers) if len(weights) < 3 else factors_of_products(products, weights)
    mean = np.maximum((weights[:, None] * factor).sum(axis=0), 1e-300)
    ratio = np.clip(factor / mean, 1 / tuning.SET.most_gain, tuning.SET.most_gain)
    logs = gaussian_filter1d(np.log(ratio), tuning.SET.gain_smoothing, axis=1, mode="nearest")
    gains: Numbers = np.exp(-(logs - logs.mean(axis=0)))
    return gains


def ssnr_of_products(products: Numbers, powers: Numbers, weights: Numbers) -> Numbers:
    """Estimate the signal-to-noise ratio of each class and shell from what the classes share.

    Parameters
    ----------
    products : ndarray, shape (K, shells)
        As for `matched_gains`.
    powers : ndarray, shape (K, shells)
        Power of each class.
    weights : ndarray, shape (K,)

    Returns
    -------
    ndarray, shape (K, shells)
        At most 1e6. With two classes both are taken to be equally good.
    """
    if len(weights) < 3:
        shared = np.maximum(products / np.maximum(weights[::-1, None], 1e-300), 0)
        ratio = shared / np.maximum(np.sqrt(powers.prod(axis=0)), 1e-300)
        ratio = np.minimum(ratio, 1 - 1e-6)
        return np.asarray(ratio / (1 - ratio))
    factor = factors_of_products(products, weights)
    signal: Numbers = np.minimum(factor**2, (1 - 1e-6) * powers)
    return np.asarray(signal / np.maximum(powers - signal, 1e-300))
