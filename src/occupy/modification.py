"""A map modified by its local scale, as settings say: lazy maps made of map, scale and confidence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy import modify
from occupy.numerics.fourier import lowpass, sphere_band
from occupy.numerics.histogram import match_histogram
from occupy.resolve import ResolvedSettings
from occupy.volume import LazyMap, Volume

Array = npt.NDArray[np.float32]
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
        made["amplified"] = changed(modify.amplify, s.amplify)
    if s.attenuate is not None:
        made["attenuated"] = changed(modify.attenuate, s.attenuate)
    if s.sigmoid is not None:
        made["sigmoid"] = changed(modify.sigmoid, s.sigmoid, s.pivot)
    if s.exclude_solvent and not made:
        made["solvent_excluded"] = lambda data, _, confidence: modify.exclude_solvent(data, confidence)
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
    """
    low, high = np.float32(span[0]), np.float32(span[1])
    if not settings.use_confidence:
        out = change(data, *others)
        return np.clip(out, low, high, out=out)
    # Where confidence is zero (most of a box) the outcome is known: nothing, or the map as it was.
    # (Of a boolean array: finding the non-zero floats takes six times as long.)
    certain = np.flatnonzero(others[1] > 0)
    out = np.zeros_like(data) if settings.exclude_solvent else data.copy()
    changed = change(*(array.reshape(-1)[certain] for array in (data, *others)))
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
        whole=lambda: modify.solvent_noise(
            volume.data, confidence.data, solvent_mean, seed=s.seed, threads=s.threads
        ),
    )
    finish = partial(finished, s, volume) if s.lowpass_output is not None or s.match_histogram else None

    def lazy(name: str, change: Change) -> LazyMap:
        sources: tuple[LazyMap, ...] = (data, scale, confidence)
        if name == "attenuated" and not s.exclude_solvent and s.attenuate != 1:
            sources = (*sources, noise)
        make = partial(modified_values, change, s, span)
        return LazyMap.on(
            volume, lambda _, __, *planes: make(*planes), sources=sources, finish=finish, threads=s.threads
        )

    return {name: lazy(name, change) for name, change in modifications(s).items()}


def finished(settings: ResolvedSettings, volume: Volume, data: Array) -> Array:
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
        band = sphere_band(volume.shape, (radius[0], radius[1], radius[2]))
        data = lowpass(data, band, threads=settings.threads)
        np.clip(data, volume.data.min(), volume.data.max(), out=data)
    if settings.match_histogram:
        data = match_histogram(data, volume.data)
    return data
