"""The maps of an estimate, computed slab by slab: scale, confidence and modified maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from occupy import modify
from occupy.numerics.fourier import lowpass, sphere_band
from occupy.numerics.histogram import match_histogram
from occupy.numerics.parallel import for_each_slab, one_blas_thread, planes_per_slab, slabs
from occupy.pipeline import Estimate, Progress
from occupy.resolve import ResolvedSettings
from occupy.volume import Volume

Array = npt.NDArray[np.float32]
Consume = Callable[[str, int, int, Array], None]

B_FACTORS: Mapping[str, Literal["values", "errors"]] = {
    "relative_bfactor": "values",
    "relative_bfactor_error": "errors",
}
PLAIN = ("scale", "confidence", "lowpass", "uncertainty", "mask_fdr", *B_FACTORS)


def products_of(settings: ResolvedSettings) -> list[str]:
    """Return the names of the maps these settings ask for, in the order they are written."""
    wanted = ["scale", "confidence"]
    for product, power in (
        ("amplified", settings.amplify),
        ("attenuated", settings.attenuate),
        ("sigmoid", settings.sigmoid),
    ):
        if power is not None:
            wanted.append(product)
    if settings.exclude_solvent and len(wanted) == 2:
        wanted.append("solvent_excluded")
    return wanted


def modified_slab(
    product: str,
    settings: ResolvedSettings,
    span: tuple[float, float],
    data: Array,
    scale: Array,
    confidence: Array,
    noise: Array | None = None,
) -> Array:
    """Return one modified map, or a slab of it, clipped to the input's range of values.

    Parameters
    ----------
    product : {"amplified", "attenuated", "sigmoid", "solvent_excluded"}
        Which.
    settings : ResolvedSettings
        Powers, pivot, limit, solvent exclusion.
    span : tuple of float
        Lowest and highest value of the input.
    data, scale, confidence, noise : ndarray of float32, same shape
        The map, its scale and confidence, and noise for attenuation.
    """
    if not settings.use_confidence:
        out = _modify(product, settings, data, scale, confidence, noise)
        return np.clip(out, np.float32(span[0]), np.float32(span[1]), out=out)
    # Where confidence is zero (most of a box) the outcome is known: nothing, or the map as it was.
    # (Of a boolean array: finding the non-zero floats takes six times as long.)
    certain = np.flatnonzero(confidence > 0)
    out = np.zeros_like(data) if settings.exclude_solvent else data.copy()
    few = [
        None if array is None else array.reshape(-1)[certain] for array in (data, scale, confidence, noise)
    ]
    changed = _modify(product, settings, *few)  # type: ignore[arg-type]
    out.reshape(-1)[certain] = np.clip(changed, np.float32(span[0]), np.float32(span[1]), out=changed)
    return out


def _modify(
    product: str,
    settings: ResolvedSettings,
    data: Array,
    scale: Array,
    confidence: Array,
    noise: Array | None,
) -> Array:
    s = settings
    common: dict[str, Any] = {
        "confidence": confidence if s.use_confidence else None,
        "exclude_solvent": s.exclude_solvent,
        "limit": s.scale_limit,
    }
    if product == "amplified":
        return modify.amplify(data, scale, s.amplify or 1.0, **common)
    if product == "attenuated":
        return modify.attenuate(data, scale, s.attenuate or 1.0, noise=noise, **common)
    if product == "sigmoid":
        return modify.sigmoid(data, scale, s.sigmoid or 1.0, s.pivot, **common)
    if product == "solvent_excluded":
        return modify.exclude_solvent(data, confidence)
    raise ValueError(f"no such product: {product!r}")


def needs_noise(settings: ResolvedSettings, products: list[str]) -> bool:
    """Tell whether attenuation will put solvent noise in the place of what it takes away."""
    return "attenuated" in products and not settings.exclude_solvent and settings.attenuate != 1


@one_blas_thread()
def render(est: Estimate, products: list[str], consume: Consume, progress: Progress | None = None) -> float:
    """Compute maps slab by slab and hand each slab to ``consume``.

    Parameters
    ----------
    est : Estimate
        From `occupy.pipeline.estimate`.
    products : list of str
        Any of scale, confidence, uncertainty, mask_fdr, relative_bfactor, relative_bfactor_error, lowpass,
        amplified, attenuated, sigmoid, solvent_excluded.
    consume : callable
        ``consume(product, start, stop, slab)``; called from several threads, each plane once. What it
        wants to keep it must copy.
    progress : callable, optional
        ``progress("maps", planes done, planes)``.

    Returns
    -------
    float
        The variability limit, see `Estimate.variability_limit`; NaN where the scale was not computed.
    """
    planes = est.volume.shape[0]
    at_full = np.zeros((planes, 2))
    noise = _noise(est, products)
    est.prepare()
    fine = planes_per_slab(est.volume.shape)
    needs_scale = any(
        product not in ("confidence", "lowpass", "mask_fdr", *B_FACTORS) for product in products
    )
    done = 0

    def work(start: int, stop: int) -> None:
        nonlocal done
        stream = est.scale_stream(start, stop) if needs_scale else iter([(start, stop, None)])
        for first, last, scale in stream:
            # What follows is point-wise and wants slabs that stay in cache.
            for low, high in slabs(last - first, fine):
                part = None if scale is None else scale[low:high]
                if part is not None and not est.resampled:
                    at_full[first + low : first + high] = est.sums_at_full_scale(part, first + low)
                _render_slab(est, products, part, noise, first + low, first + high, consume)
            done += last - first
            if progress is not None:
                progress("maps", done, planes)

    for_each_slab(work, planes, est.planes_per_thread, est.settings.threads)
    return est.variability_limit if est.resampled and needs_scale else est.mean_at_full_scale(at_full)


def _render_slab(
    est: Estimate,
    products: list[str],
    scale: Array | None,
    noise: Array | None,
    start: int,
    stop: int,
    consume: Consume,
) -> None:
    """Make every product of one slab whose scale is known."""
    modified = [product for product in products if product not in PLAIN]
    data = est.volume.data[start:stop]
    span = est.facts.low, est.facts.high
    confidence = est.confidence_planes(start, stop) if modified or "confidence" in products else None
    for product in products:
        if product in B_FACTORS:
            slab = est.b_factor_planes(B_FACTORS[product], start, stop)
        elif product == "mask_fdr":
            slab = (est.lowpass_planes(start, stop) > np.float32(est.fdr_level or 0.0)).astype(np.float32)
        elif product == "lowpass":
            slab = est.lowpass_planes(start, stop)
        elif product == "scale" and scale is not None:
            slab = scale
        elif product == "uncertainty" and scale is not None and est.calibration is not None:
            slab = est.calibration.uncertainty_of(scale)
        elif product == "confidence" and confidence is not None:
            slab = confidence
        else:
            assert scale is not None
            assert confidence is not None
            drawn = None if noise is None else noise[start:stop]
            slab = modified_slab(product, est.settings, span, data, scale, confidence, drawn)
        consume(product, start, stop, slab)


def _noise(est: Estimate, products: list[str]) -> Array | None:
    if not needs_noise(est.settings, products):
        return None
    s = est.settings
    return modify.solvent_noise(
        est.volume.data, est.confidence, est.solvent.mean, seed=s.seed, threads=s.threads
    )


def needs_finish(settings: ResolvedSettings) -> bool:
    """Tell whether modified maps need a step on the whole map after `render`."""
    return settings.lowpass_output is not None or settings.match_histogram


def finish(settings: ResolvedSettings, volume: Volume, data: Array) -> Array:
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
