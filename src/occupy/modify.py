"""Maps modified by their local scale: arrays of one shape, and lazy maps as settings ask for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.numerics.fourier import FourierBand, lowpass
from occupy.numerics.histogram import match_histogram
from occupy.numerics.parallel import for_each_slab, ordinary_unit, planes_per_slab, scratch
from occupy.resolve import ResolvedSettings
from occupy.volume import LazyMap, Volume

Array = npt.NDArray[np.float32]
_TINY = float(np.finfo(np.float32).tiny)


def amplification(scale: Array, power: float, limit: float = 0.05) -> Array:
    """Return the factor S^(1/γ − 1) that raises weak content towards full scale.

    Parameters
    ----------
    scale : ndarray of float32
        Local scale S in [0, 1].
    power : float
        γ ≥ 1. With 1 the factor is 1; towards infinity every region is brought to full scale.
    limit : float, default 0.05
        Scale below which the factor is 1.
    """
    return _power(scale, 1.0 / power - 1.0, limit)


def attenuation(scale: Array, power: float, limit: float = 0.05) -> Array:
    """Return the factor S^(γ − 1), which weakens what is weak already; 1 below ``limit``."""
    return _power(scale, power - 1.0, limit)


def _power(scale: Array, exponent: float, limit: float) -> Array:
    if exponent == 0:
        return np.ones_like(scale)
    modified = scale >= max(limit, _TINY)
    out = np.ones_like(scale)
    np.power(scale, np.float32(exponent), out=out, where=modified)
    return out


def sigmoid_curve(scale: npt.NDArray[np.floating], power: float, pivot: float) -> npt.NDArray[np.float64]:
    """Return f(S), a sigmoid through 0, the pivot and 1.

    Parameters
    ----------
    scale : ndarray
        S in [0, 1].
    power : float
        Order γ ≥ 1.
    pivot : float
        p in (0, 1), where f(p) = p.

    Returns
    -------
    ndarray of float64
        1/(1 + (μ(1−S)/(S(1−μ)))^γ) with μ such that f(p) = p; f(0) = 0, f(1) = 1, not decreasing.
    """
    s = np.asarray(scale, dtype=np.float64)
    # μ(1−p)/(p(1−μ)) = ((1−p)/p)^(1/γ) makes f(p) = p; this is the odds of μ.
    odds = ((1 - pivot) / pivot) ** (1 / power) * pivot / (1 - pivot)
    ratio = odds * np.divide(1 - s, s, out=np.full_like(s, np.inf), where=s > 0)
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + ratio**power), dtype=np.float64)


def sigmoid_gain(scale: Array, power: float, pivot: float, limit: float = 0.05) -> Array:
    """Return the factor f(S)/S of `sigmoid_curve`; 1 below ``limit``."""
    out = np.ones_like(scale)
    modified = scale >= max(limit, _TINY)
    s = scale[modified]
    out[modified] = sigmoid_curve(s, power, pivot) / s
    return out


def _blend(data: Array, modified: Array, confidence: Array | None, *, exclude_solvent: bool = False) -> Array:
    """Return c·modified + (1 − c)·data; with ``exclude_solvent`` without the second term.

    Without a confidence, the modified map is taken as it is.
    """
    if confidence is None:
        return modified
    if exclude_solvent:
        return modified * confidence
    return data + confidence * (modified - data)


def amplify(
    data: Array,
    scale: Array,
    power: float,
    *,
    confidence: Array | None = None,
    exclude_solvent: bool = False,
    limit: float = 0.05,
) -> Array:
    """Bring weak content closer to full scale without amplifying solvent.

    Parameters
    ----------
    data, scale : ndarray of float32, same shape
        The map and its local scale.
    power : float
        γ ≥ 1; 1 leaves the map as it is, large values equalise.
    confidence : ndarray of float32, optional
        Confidence that a voxel is content; where it is low the map stays as it was.
    exclude_solvent : bool, default False
        Set what is not confident to zero instead.
    limit : float, default 0.05
        Scale below which nothing is modified.

    Returns
    -------
    ndarray of float32
        Not clipped.
    """
    _same_shape(data, scale, confidence)
    return _blend(
        data, data * amplification(scale, power, limit), confidence, exclude_solvent=exclude_solvent
    )


def attenuate(
    data: Array,
    scale: Array,
    power: float,
    *,
    confidence: Array | None = None,
    exclude_solvent: bool = False,
    noise: Array | None = None,
    limit: float = 0.05,
) -> Array:
    """Weaken partial content further, putting solvent noise in its place.

    Parameters
    ----------
    data, scale, power, confidence, exclude_solvent, limit
        As in `amplify`; the factor is S^(γ − 1).
    noise : ndarray of float32, optional
        Solvent noise (see `solvent_noise`), mixed in with weight 1 − S^(γ − 1). Not used when solvent is
        excluded.
    """
    _same_shape(data, scale, confidence, noise)
    factor = attenuation(scale, power, limit)
    modified = data * factor
    if noise is not None and not exclude_solvent:
        modified += (1 - factor) * noise
    return _blend(data, modified, confidence, exclude_solvent=exclude_solvent)


def sigmoid(
    data: Array,
    scale: Array,
    power: float,
    pivot: float,
    *,
    confidence: Array | None = None,
    exclude_solvent: bool = False,
    limit: float = 0.05,
) -> Array:
    """Amplify content above the pivot and attenuate content below it; see `sigmoid_curve`."""
    _same_shape(data, scale, confidence)
    modified = data * sigmoid_gain(scale, power, pivot, limit)
    return _blend(data, modified, confidence, exclude_solvent=exclude_solvent)


def exclude_solvent(data: Array, confidence: Array) -> Array:
    """Return the map weighted by the confidence that each voxel is content."""
    _same_shape(data, confidence)
    return data * confidence


def _same_shape(data: Array, *others: Array | None) -> None:
    for other in others:
        if other is not None and other.shape != data.shape:
            raise ValueError(f"the map is {data.shape} voxels, another array {other.shape}")


def solvent_noise(data: Array, confidence: Array, mean: float, *, seed: int = 0, threads: int = 1) -> Array:
    """Draw noise that has the mean and the radial power spectrum of the map's solvent.

    Parameters
    ----------
    data, confidence : ndarray of float32, same shape
        The map, and the confidence that each voxel is content: solvent is where it is 0.
    mean : float
        Mean of the solvent.
    seed : int
        Same seed, same noise.
    threads : int, default 1
        Threads to use.

    Returns
    -------
    ndarray of float32
        White noise shaped in Fourier space so that each shell has the power found in the solvent part.
    """
    _same_shape(data, confidence)
    outside = np.zeros(data.shape, dtype=np.float32)
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal(data.shape, dtype=np.float32)
    thickness = planes_per_slab(data.shape)
    weights = np.zeros(-(-data.shape[0] // thickness))

    def work(start: int, stop: int) -> None:
        weight = 1 - confidence[start:stop]
        weight *= weight > 0.5
        weights[start // thickness] = np.square(weight, dtype=np.float64).sum()
        outside[start:stop] = (data[start:stop] - np.float32(mean)) * weight

    for_each_slab(work, data.shape[0], thickness, threads)
    unit = ordinary_unit(max(float(outside.max()), -float(outside.min())))
    if unit != 1:
        outside *= np.float32(1 / unit)
    # Power is lost where the weight is 0, and in part where it is below 1.
    share = float(weights.sum()) / data.size
    shells = _radial_shells(data.shape)
    spectrum = np.fft.rfftn(outside)
    power = _shell_means(shells, np.abs(spectrum) ** 2) / max(share, 1e-6)
    power[0] = 0.0  # the mean is given, not drawn
    drawn = np.fft.rfftn(noise)
    # White noise of unit variance has power equal to the number of voxels in every coefficient.
    drawn *= (unit * np.sqrt(power / data.size)).astype(np.float32)[shells]
    out = np.fft.irfftn(drawn, s=data.shape, axes=(0, 1, 2)).astype(np.float32)
    out += np.float32(mean)
    return out


def _radial_shells(shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Return the shell number of each coefficient of an rfftn, in units of the longest axis."""
    n = max(shape)
    z, y = (np.fft.fftfreq(m) * n for m in shape[:2])
    x = np.fft.rfftfreq(shape[2]) * n
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    return np.asarray(np.rint(distance), dtype=np.int32)


def _shell_means(shells: npt.NDArray[np.int32], values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    count = np.bincount(shells.ravel())
    total = np.bincount(shells.ravel(), weights=values.ravel())
    return np.asarray(total / np.maximum(count, 1), dtype=np.float64)


Change = Callable[..., Array]


def modifications(settings: ResolvedSettings) -> dict[str, Change]:
    """Return the modifications these settings ask for, in the order in which they are written.

    Returns
    -------
    dict
        Name of the modified map → function of the values of the map, its scale, its confidence and, for
        attenuation, of noise; arrays of one shape.
    """
    s = settings
    how: dict[str, Any] = {"exclude_solvent": s.exclude_solvent, "limit": s.scale_limit}

    def changed(function: Change, *parameters: float) -> Change:
        def change(data: Array, scale: Array, confidence: Array, *noise: Array) -> Array:
            weight = confidence if s.use_confidence else None
            drawn = {"noise": noise[0]} if noise else {}
            return function(data, scale, *parameters, confidence=weight, **drawn, **how)

        return change

    made: dict[str, Change] = {}
    if s.amplify is not None:
        made["amplified"] = changed(amplify, s.amplify)
    if s.attenuate is not None:
        made["attenuated"] = changed(attenuate, s.attenuate)
    if s.sigmoid is not None:
        made["sigmoid"] = changed(sigmoid, s.sigmoid, s.pivot)
    if s.exclude_solvent and not made:
        made["solvent_excluded"] = lambda data, _, confidence: exclude_solvent(data, confidence)
    return made


def modified_values(
    change: Change,
    settings: ResolvedSettings,
    span: tuple[float, float],
    data: Array,
    *others: Array,
) -> Array:
    """Return modified values, clipped to the input's range.

    Parameters
    ----------
    change : callable
        From `modifications`.
    settings : ResolvedSettings
        Solvent exclusion, and whether confidence counts.
    span : tuple of float
        Lowest and highest value of the input.
    data, *others : ndarray of float32, same shape
        The map, its scale and confidence, and noise for attenuation.

    Returns
    -------
    ndarray of float32
        Perhaps a scratch array of this thread: use it before the next call.
    """
    low, high = np.float32(span[0]), np.float32(span[1])
    if not settings.use_confidence:
        out = change(data, *others)
        return np.clip(out, low, high, out=out)
    # Where confidence is zero (most of a box) the outcome is known: nothing, or the map as it was.
    # (Of a boolean array: finding the non-zero floats takes six times as long.)
    certain = np.flatnonzero(others[1] > 0)
    out = scratch("modified", data.shape)
    out[...] = 0 if settings.exclude_solvent else data
    changed = change(*(array.take(certain) for array in (data, *others)))
    out.reshape(-1)[certain] = np.clip(changed, low, high, out=changed)
    return out


def modified_maps(
    volume: Volume,
    scale: LazyMap,
    confidence: LazyMap,
    settings: ResolvedSettings,
    *,
    span: tuple[float, float],
    solvent_mean: float,
) -> dict[str, LazyMap]:
    """Return the modified maps that settings ask for.

    Parameters
    ----------
    volume : Volume
        The input.
    scale, confidence : LazyMap
        On its grid.
    settings : ResolvedSettings
        Which modifications, and what is done to the modified maps at the end.
    span : tuple of float
        Lowest and highest value of the input.
    solvent_mean : float
        Of the noise that attenuation puts in the place of what it takes away.
    """
    s = settings
    data = LazyMap.of(volume)
    noise = LazyMap.on(
        volume,
        whole=lambda: solvent_noise(
            volume.data, confidence.data, solvent_mean, seed=s.seed, threads=s.threads
        ),
    )
    finish = partial(_finished, s, volume) if s.lowpass_output is not None or s.match_histogram else None

    def lazy(name: str, change: Change) -> LazyMap:
        sources: tuple[LazyMap, ...] = (data, scale, confidence)
        if name == "attenuated" and not s.exclude_solvent and s.attenuate != 1:
            sources = (*sources, noise)
        make = partial(modified_values, change, s, span)
        return LazyMap.on(
            volume, lambda _, __, *planes: make(*planes), sources=sources, finish=finish, threads=s.threads
        )

    return {name: lazy(name, change) for name, change in modifications(s).items()}


def _finished(settings: ResolvedSettings, volume: Volume, data: Array) -> Array:
    """Low-pass a modified map and match its histogram to the input's, as the settings say.

    Parameters
    ----------
    settings : ResolvedSettings
        Whether and how.
    volume : Volume
        The input.
    data : ndarray of float32
        A modified map.
    """
    if settings.lowpass_output is not None:
        d = settings.lowpass_output
        radius = [n * a / d for n, a in zip(volume.shape, volume.voxel_size, strict=True)]
        band = FourierBand.sphere(volume.shape, (radius[0], radius[1], radius[2]))
        data = lowpass(data, band, threads=settings.threads)
        np.clip(data, volume.data.min(), volume.data.max(), out=data)
    if settings.match_histogram:
        data = match_histogram(data, volume.data)
    return data
