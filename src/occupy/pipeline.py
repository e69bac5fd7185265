"""From a map to its local scale, its confidence and its modified maps.

``estimate`` reads the map once and finds all numbers: full scale, solvent model, confidence curve. What
is written is then computed slab by slab (`render`), so that no more than the map, its low-passed copy
and a few slabs are in memory at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy import modify
from occupy.checks import MapFacts, input_notices, look_at
from occupy.confidence import ConfidenceCurve, confidence_curve
from occupy.errors import InputError, Notice
from occupy.numerics.fourier import fourier_crop, lowpass, sphere_band
from occupy.numerics.histogram import match_histogram
from occupy.numerics.parallel import for_each_slab, planes_per_slab
from occupy.numerics.resample import refine_slab
from occupy.resolve import ResolvedSettings, resolve
from occupy.scale import (
    FullScale,
    TargetOccupancy,
    find_full_scale,
    lowpass_band,
    scale_slab,
    target_occupancy,
)
from occupy.settings import Settings
from occupy.solvent import SolventModel, both, fit_solvent, inscribed_ellipsoid, solvent_side
from occupy.volume import Volume

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]
Consume = Callable[[str, int, int, Array], None]

# A Gaussian solvent leaves 2–10 % between fit and histogram; beyond a third it is no Gaussian.
WORST_MISFIT = 0.35
LEAST_SOLVENT = 0.15


@dataclass(frozen=True, eq=False)
class Estimate:
    """Everything found out about one map.

    Attributes
    ----------
    volume : Volume
        The input.
    settings : ResolvedSettings
        Settings as they held.
    facts : MapFacts
        Range and flatness of the input.
    lowpassed : ndarray of float32
        Low-passed map on the working grid.
    full_scale : FullScale
        What counts as fully present.
    solvent : SolventModel
        Fitted solvent.
    curve : ConfidenceCurve
        Confidence against low-passed value.
    lowest_confident_scale : float
        Scale at which confidence crosses one half (L).
    target : TargetOccupancy or None
        Occupancy of the target mask.
    notices : tuple of Notice
        What makes the result doubtful.
    """

    volume: Volume
    settings: ResolvedSettings
    facts: MapFacts
    lowpassed: Array
    full_scale: FullScale
    solvent: SolventModel
    curve: ConfidenceCurve
    lowest_confident_scale: float
    target: TargetOccupancy | None
    notices: tuple[Notice, ...]
    working_map: Array

    @property
    def zero(self) -> float:
        """Scale that recalibration makes zero; 0 without recalibration."""
        return self.lowest_confident_scale if self.settings.recalibrate else 0.0

    @property
    def resampled(self) -> bool:
        """Whether the working grid is coarser than the map's own."""
        return self.settings.shape != self.volume.shape

    @property
    def solvent_fit_is_bad(self) -> bool:
        """Whether confidence, and what is weighted by it, should not be trusted."""
        return any(notice.code == "solvent-fit" for notice in self.notices)

    @cached_property
    def scale(self) -> Array:
        """Local scale of the whole map in [0, 1], on the map's grid."""
        return self._whole("scale")

    @cached_property
    def confidence(self) -> Array:
        """Confidence that each voxel is content, in [0, 1], on the map's grid."""
        return self._whole("confidence")

    @cached_property
    def variability_limit(self) -> float:
        """Mean of the map where the scale is 1, relative to full scale."""
        count, total = _sum_at_full(self, self.scale, 0, self.volume.shape[0])
        return total / count / self.full_scale.value if count else float("nan")

    @cached_property
    def _coarse(self) -> tuple[Array, Array]:
        """Scale and confidence on the working grid, where that is coarser than the map's."""
        planes = self.settings.shape[0]
        return self._scale_on_grid(0, planes), self.curve(self.lowpassed)

    def _scale_on_grid(self, start: int, stop: int) -> Array:
        return scale_slab(self.working_map, self.settings, self.full_scale.value, start, stop, self.zero)

    def _whole(self, product: str) -> Array:
        out = np.empty(self.volume.shape, dtype=np.float32)

        def keep(_: str, start: int, stop: int, slab: Array) -> None:
            out[start:stop] = slab

        render(self, [product], keep)
        out.flags.writeable = False
        return out

    def scale_planes(self, start: int, stop: int) -> Array:
        """Return the local scale of planes ``start`` to ``stop`` of the map."""
        if self.resampled:
            return refine_slab(self._coarse[0], self.volume.shape, start, stop)
        return self._scale_on_grid(start, stop)

    def confidence_planes(self, start: int, stop: int) -> Array:
        """Return the confidence of planes ``start`` to ``stop`` of the map."""
        if self.resampled:
            return refine_slab(self._coarse[1], self.volume.shape, start, stop)
        return self.curve(self.lowpassed[start:stop])

    def amplify(self, power: float, **options: Any) -> Volume:
        """Return the map amplified by its scale, weighted by its confidence; see `occupy.amplify`."""
        changed = modify.amplify(self.volume.data, self.scale, power, confidence=self.confidence, **options)
        return self.volume.with_data(np.clip(changed, self.facts.low, self.facts.high))

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw central slices of input, scale and confidence; see `occupy.report.figures`.

        Parameters
        ----------
        path : path-like, optional
            Where to write a PNG; without it the matplotlib figure is returned.
        """
        # The figure room stands above this one; it is loaded by name when someone wants a picture.
        from importlib import import_module

        figure = import_module("occupy.report.figures").slices_figure(self)
        if path is None:
            return figure
        figure.savefig(path)
        return None


def _on_working_grid(array: npt.NDArray[np.floating], settings: ResolvedSettings) -> Array:
    if array.shape == settings.shape:
        return np.asarray(array, dtype=np.float32)
    return fourier_crop(array, settings.shape, threads=settings.threads)


def _mask_data(mask: Volume | None, volume: Volume, what: str, settings: ResolvedSettings) -> Array | None:
    if mask is None:
        return None
    if mask.shape != volume.shape:
        raise InputError(
            f"the {what} mask {mask.name} is {mask.shape[::-1]} voxels, the map {volume.name} "
            f"{volume.shape[::-1]}; resample the mask onto the map first"
        )
    return _on_working_grid(mask.data, settings)


def estimate(
    volume: Volume,
    settings: Settings | None = None,
    *,
    solvent_mask: Volume | None = None,
    target_mask: Volume | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Find full scale, solvent model and confidence of a map.

    Parameters
    ----------
    volume : Volume
        Best an averaged reconstruction: unsharpened, not masked, with solvent noise.
    settings : Settings, optional
        What the user wants; defaults choose by themselves.
    solvent_mask : Volume, optional
        Mask of the solvent or of the content (thresholded at 0.9), to help the solvent fit.
    target_mask : Volume, optional
        Mask of a part whose occupancy is wanted.
    progress : callable, optional
        ``progress(stage, done, total)``.

    Returns
    -------
    Estimate
        Numbers now; ``.scale`` and ``.confidence`` are computed when first asked for.

    Raises
    ------
    InputError
        Where no right answer exists (constant, not finite, two-dimensional, …).
    """
    settings = settings or Settings()
    resolved = resolve(settings, volume.shape, volume.voxel_size)
    published = resolved.estimator == "nlf"
    report = progress or (lambda *_: None)
    report("reading", 0, 4)
    facts = look_at(volume, threads=resolved.threads)
    solvent_data = _mask_data(solvent_mask, volume, "solvent", resolved)
    target_data = _mask_data(target_mask, volume, "target", resolved)
    report("low-pass", 1, 4)
    raw = _on_working_grid(volume.data, resolved)
    low = lowpass(raw, lowpass_band(resolved), threads=resolved.threads)
    working = low if resolved.mode == "occupancy" else raw
    report("full scale", 2, 4)
    full = find_full_scale(working, resolved)
    report("solvent", 3, 4)
    region = inscribed_ellipsoid(low.shape) if solvent_data is None else solvent_side(low, solvent_data)
    if facts.masked and solvent_data is None and raw.shape == volume.shape:
        flat = np.float32(facts.flat_value)
        region = both(region, lambda start, stop: raw[start:stop] != flat)
    solvent = fit_solvent(low, region, published=published and not facts.masked, threads=resolved.threads)
    curve = confidence_curve(solvent, hedge=resolved.hedge, published=published)
    lowest = min(max(curve.crossing(0.5) / full.value, 0.0), 0.999)
    notices = volume.notices + tuple(input_notices(volume, facts) + solvent_notices(solvent, curve, facts))
    for notice in notices:
        log.warning("%s", notice.text)
    target = None if target_data is None else target_occupancy(working, target_data, resolved)
    report("done", 4, 4)
    return Estimate(volume, resolved, facts, low, full, solvent, curve, lowest, target, notices, working)


def solvent_notices(solvent: SolventModel, curve: ConfidenceCurve, facts: MapFacts) -> list[Notice]:
    """Return what is doubtful about the solvent fit."""
    problem = None
    share = solvent.height * solvent.sigma * np.sqrt(2 * np.pi)
    if solvent.sigma < 1.5 * solvent.region.width:
        problem = "the solvent has no width (flattened)"
    elif curve.crossing(0.5) > 0.5 * (facts.low + facts.high):
        problem = "the solvent peak reaches above the middle of the map's values"
    elif not np.isfinite(solvent.misfit) or solvent.misfit > WORST_MISFIT:
        problem = f"the solvent is not Gaussian (misfit {solvent.misfit:.0%})"
    elif share < LEAST_SOLVENT:
        problem = f"only {share:.0%} of the box looks like solvent"
    if problem is None:
        return []
    advice = "do not trust the confidence; give an unmasked map, or --solvent-mask"
    return [Notice("solvent-fit", f"bad solvent fit: {problem}; {advice}")]


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
    s = settings
    weight = confidence if s.use_confidence else None
    common: dict[str, Any] = {
        "confidence": weight,
        "exclude_solvent": s.exclude_solvent,
        "limit": s.scale_limit,
    }
    if product == "amplified":
        out = modify.amplify(data, scale, s.amplify or 1.0, **common)
    elif product == "attenuated":
        out = modify.attenuate(data, scale, s.attenuate or 1.0, noise=noise, **common)
    elif product == "sigmoid":
        out = modify.sigmoid(data, scale, s.sigmoid or 1.0, s.pivot, **common)
    elif product == "solvent_excluded":
        out = modify.exclude_solvent(data, confidence)
    else:
        raise ValueError(f"no such product: {product!r}")
    return np.clip(out, np.float32(span[0]), np.float32(span[1]), out=out)


def needs_noise(settings: ResolvedSettings, products: list[str]) -> bool:
    """Tell whether attenuation will put solvent noise in the place of what it takes away."""
    return "attenuated" in products and not settings.exclude_solvent and settings.attenuate != 1


def render(est: Estimate, products: list[str], consume: Consume, progress: Progress | None = None) -> float:
    """Compute maps slab by slab and hand each slab to ``consume``.

    Parameters
    ----------
    est : Estimate
        From `estimate`.
    products : list of str
        Any of scale, confidence, lowpass, amplified, attenuated, sigmoid, solvent_excluded.
    consume : callable
        ``consume(product, start, stop, slab)``; called from several threads, each slab once. Slabs must
        not be kept without a copy where they are views.
    progress : callable, optional
        ``progress("maps", planes done, planes)``.

    Returns
    -------
    float
        The variability limit: mean of the map where the scale is 1, relative to full scale (NaN where no
        voxel has it, or the scale was not computed).
    """
    planes = est.volume.shape[0]
    at_full = np.zeros((planes, 2))
    noise = None
    if needs_noise(est.settings, products):
        s = est.settings
        noise = modify.solvent_noise(
            est.volume.data, est.confidence, est.solvent.mean, seed=s.seed, threads=s.threads
        )
    if est.resampled:
        _ = est._coarse
    modified = [p for p in products if p not in ("scale", "confidence", "lowpass")]
    done = 0

    def work(start: int, stop: int) -> None:
        nonlocal done
        made: dict[str, Array] = {}
        if modified or "scale" in products:
            made["scale"] = est.scale_planes(start, stop)
            at_full[start] = _sum_at_full(est, made["scale"], start, stop)
        if modified or "confidence" in products:
            made["confidence"] = est.confidence_planes(start, stop)
        for product in products:
            if product in modified:
                part = None if noise is None else noise[start:stop]
                data = est.volume.data[start:stop]
                span = est.facts.low, est.facts.high
                slab = modified_slab(
                    product, est.settings, span, data, made["scale"], made["confidence"], part
                )
            elif product == "lowpass":
                slab = _lowpass_planes(est, start, stop)
            else:
                slab = made[product]
            consume(product, start, stop, slab)
        done += stop - start
        if progress is not None:
            progress("maps", done, planes)

    # Thick enough that the footprint's reach into the neighbouring slabs costs little.
    thickness = max(16, planes_per_slab(est.volume.shape, 1 << 20))
    for_each_slab(work, planes, thickness, est.settings.threads)
    count, total = at_full.sum(axis=0)
    return float(total / count / est.full_scale.value) if count else float("nan")


def _sum_at_full(est: Estimate, scale: Array, start: int, stop: int) -> tuple[int, float]:
    """Count the voxels of full scale in a slab and sum the map there."""
    source = est.working_map
    if est.resampled:
        source = est.volume.data
    full = scale >= 1.0
    return int(np.count_nonzero(full)), float(source[start:stop][full].sum(dtype=np.float64))


def _lowpass_planes(est: Estimate, start: int, stop: int) -> Array:
    if est.resampled:
        return refine_slab(est.lowpassed, est.volume.shape, start, stop)
    return est.lowpassed[start:stop]


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
