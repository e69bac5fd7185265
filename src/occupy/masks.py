"""Masks made from a local scale: what to keep in particle subtraction, and what is not solvent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.modify import sigmoid_curve

Array = npt.NDArray[np.float32]
Triple = tuple[float, float, float]


def _to_unit_range(mask: npt.NDArray[np.floating]) -> Array:
    """Return a mask as float32 with every value within [0, 1] (RELION refuses 1.00001)."""
    return np.clip(np.asarray(mask, dtype=np.float32), np.float32(0), np.float32(1))


def subtraction_mask(
    scale: Array, *, attenuate: float | None = None, sigmoid: float | None = None, pivot: float = 0.5
) -> Array:
    """Return a mask for particle subtraction in RELION's convention: 1 is kept, 0 subtracted.

    Subtracting the masked map from particles does to them what the modification does to the map.

    Parameters
    ----------
    scale : ndarray of float32
        Local scale S in [0, 1].
    attenuate : float, optional
        Power γ: the mask is S^(γ − 1).
    sigmoid : float, optional
        Power γ of the sigmoid f: the mask is min(1, f(S)/S) below the pivot and 1 above it.
    pivot : float
        Scale that the sigmoid leaves as it is.

    Returns
    -------
    ndarray of float32
        Strictly within [0, 1].
    """
    if (attenuate is None) == (sigmoid is None):
        raise InputError("a subtraction mask needs either an attenuation or a sigmoid power, and not both")
    scale = _to_unit_range(scale)
    if attenuate is not None:
        _at_least_one(attenuate, "attenuate")
        return _to_unit_range(np.power(scale, np.float32(attenuate - 1)))
    power = 1.0 if sigmoid is None else float(sigmoid)
    _at_least_one(power, "sigmoid")
    if not 0 < pivot < 1:
        raise InputError(f"pivot must lie between 0 and 1, not {pivot}")
    below = scale < pivot
    out = np.ones_like(scale)
    s = scale[below].astype(np.float64)
    out[below] = np.divide(sigmoid_curve(s, power, pivot), s, out=np.zeros_like(s), where=s > 0)
    return _to_unit_range(out)


def _at_least_one(power: float, name: str) -> None:
    if not power >= 1:
        raise InputError(f"{name} must be at least 1, not {power}")


def usual_content(lowest: float, *, recalibrated: bool = False) -> dict[str, float]:
    """Return what `solvent_definition` takes for a mask that fits: two thresholds and gaps to close.

    Chosen on simulated maps, so that the mask holds the atoms of parts above 0.2 and little else. Only what
    is half present may begin a piece: noise does not, also where the lowest confident scale is tiny.

    Parameters
    ----------
    lowest : float
        Lowest confident scale of the estimate. Below it noise would join what it touches.
    recalibrated : bool, default False
        Whether that scale has become the scale map's zero.

    Returns
    -------
    dict of str to float
        ``threshold``, ``weak`` (scales, on the axis of the scale map) and ``close`` (Å).
    """
    weak = max(lowest, 0.115)
    strong = max(weak, 0.5)
    if recalibrated:
        weak, strong = ((value - lowest) / (1 - lowest) for value in (weak, strong))
    return {"threshold": strong, "weak": weak, "close": 5.0}


def solvent_definition(
    scale: Array,
    threshold: float,
    voxel_size: Triple,
    *,
    weak: float | None = None,
    close: float = 0.0,
    smallest: float = 0.0,
    extend: float = 0.0,
    soft_edge: float = 0.0,
) -> Array:
    """Return a mask of the content, 1 where the scale exceeds a threshold.

    Parameters
    ----------
    scale : ndarray of float32, shape (nz, ny, nx)
        Local scale in [0, 1].
    threshold : float
        Scale above which a voxel is content.
    voxel_size : tuple of float
        Å per voxel along the axes of ``scale``.
    weak : float, optional
        A lower threshold: weaker parts are kept too where they touch content. So a flexible domain stays
        with its particle while noise of the same level is left out.
    close : float, default 0
        Gaps and dents of less than twice this width (Å) are filled.
    smallest : float, default 0
        Pieces of less than this volume (Å³) are dropped as noise.
    extend : float, default 0
        Å by which the mask is grown.
    soft_edge : float, default 0
        Width in Å of a raised-cosine edge outside of it.

    Returns
    -------
    ndarray of float32
        Within [0, 1].
    """
    if scale.ndim != 3:
        raise InputError(f"a scale map has three dimensions, not {scale.ndim}")
    for name, value in (
        ("close", close),
        ("smallest", smallest),
        ("extend", extend),
        ("soft edge", soft_edge),
    ):
        if not (np.isfinite(value) and value >= 0):
            raise InputError(f"{name} must not be negative, not {value}")
    if not 0 <= threshold < 1:
        raise InputError(f"threshold must be a scale from 0 to below 1, not {threshold}")
    if weak is not None and not 0 <= weak <= threshold:
        raise InputError(f"the weak threshold must lie between 0 and the threshold {threshold}, not {weak}")
    content = _connected(scale, threshold, weak, smallest / float(np.prod(voxel_size)))
    if not content.any():
        raise InputError(f"nothing has a scale above {threshold}: the mask would be empty; lower --threshold")
    content = _closed(content, voxel_size, close)
    return _to_unit_range(soften(content, voxel_size, extend=extend, soft_edge=soft_edge))


def _closed(content: npt.NDArray[np.bool_], voxel_size: Triple, reach: float) -> npt.NDArray[np.bool_]:
    """Fill what a ball of radius ``reach`` (Å) outside of the content cannot touch."""
    if reach < min(voxel_size):
        return content
    from scipy.ndimage import distance_transform_edt

    # Beyond the box is neither content nor out of reach.
    margin = [(int(reach / size) + 2,) * 2 for size in voxel_size]
    padded = np.pad(content, margin)
    grown = distance_transform_edt(~padded, sampling=voxel_size) <= reach
    closed = distance_transform_edt(grown, sampling=voxel_size) > reach
    inner = tuple(slice(before, -after) for before, after in margin)
    return np.asarray(closed[inner] | content, dtype=bool)


def _connected(scale: Array, threshold: float, weak: float | None, smallest: float) -> npt.NDArray[np.bool_]:
    strong = scale > threshold
    if weak is None and smallest <= 1:
        return strong
    from scipy.ndimage import label

    pieces, count = label(strong if weak is None else scale > weak)
    keep = np.bincount(pieces.ravel(), minlength=count + 1) >= smallest
    if weak is not None:
        keep &= np.bincount(pieces[strong], minlength=count + 1) > 0
    keep[0] = False
    return np.asarray(keep[pieces], dtype=bool)


def soften(
    content: npt.NDArray[np.bool_], voxel_size: Triple, *, extend: float = 0.0, soft_edge: float = 0.0
) -> Array:
    """Grow a binary mask by ``extend`` Å and let it fall off over ``soft_edge`` Å as a raised cosine."""
    if extend <= 0 and soft_edge <= 0:
        return content.astype(np.float32)
    from scipy.ndimage import distance_transform_edt

    distance = distance_transform_edt(~content, sampling=voxel_size).astype(np.float32) - np.float32(extend)
    # Å; a shorter edge cannot be told from a hard one, and would divide by nearly nothing.
    if soft_edge < 1e-3:
        return np.asarray(distance <= 0, dtype=np.float32)
    fall = np.clip(distance / np.float32(soft_edge), 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * fall), dtype=np.float32)


def smooth(mask: Array, voxel_size: Triple, width: float) -> Array:
    """Smooth a mask with a raised-cosine kernel of ``width`` Å on either side; stays within its range."""
    from scipy.ndimage import correlate1d

    out = np.asarray(mask, dtype=np.float32)
    for axis, voxel in enumerate(voxel_size):
        reach = int(width / voxel)
        kernel = 1 + np.cos(np.pi * np.arange(-reach, reach + 1) * voxel / max(width, voxel))
        out = correlate1d(out, kernel / kernel.sum(), axis=axis, mode="nearest")
    return _to_unit_range(out)
