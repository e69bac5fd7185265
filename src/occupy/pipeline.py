"""From a map to its local scale and its confidence.

``estimate`` finds all numbers: full scale, solvent model, confidence curve. The maps themselves are
computed slab by slab when they are wanted (`occupy.render`), so that no more than the input, its low-passed
copy and a few slabs are in memory at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from occupy import modify, tuning
from occupy.bfactor import BFactors, relative_b_factors
from occupy.calibration import Calibration, calibrate, noise_floor
from occupy.checks import MapFacts, input_notices, look_at
from occupy.confidence import ConfidenceCurve, confidence_curve, fdr_threshold
from occupy.errors import InputError, Notice
from occupy.notices import calibration_notices, setting_notices, solvent_notices
from occupy.numerics.fourier import fourier_crop, lowpass
from occupy.numerics.parallel import for_each_slab, large_empty, planes_per_slab, slabs
from occupy.numerics.resample import refine_slab
from occupy.resolve import ResolvedSettings, resolve
from occupy.scale import (
    FullScale,
    TargetOccupancy,
    calibrated_full_scale,
    find_full_scale,
    lowpass_band,
    scale_stream,
    strided_maxima,
    target_occupancy,
)
from occupy.settings import Settings
from occupy.solvent import Region, SolventModel, both, fit_solvent, inscribed_ellipsoid, solvent_side
from occupy.volume import Volume

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]
Stream = Iterator[tuple[int, int, Array]]

# Share of the box that must remain for a fit when a mask's voxels are left out.
LEAST_REGION = 0.01


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
    working_map : ndarray of float32
        What the scale is taken of: the low-passed map, or in resolution mode the map itself, on the
        working grid.
    b_factors : BFactors or None
        Relative B-factors, where they were asked for and could be found.
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
    b_factors: BFactors | None = None

    @property
    def zero(self) -> float:
        """Scale that recalibration makes zero; 0 without recalibration."""
        return self.lowest_confident_scale if self.settings.recalibrate else 0.0

    @property
    def calibration(self) -> Calibration | None:
        """Noise floor, full scale and uncertainty; None with the estimators that have none."""
        return self.full_scale.calibration

    @cached_property
    def uncertainty(self) -> Array | None:
        """Standard error of the scale at each voxel, on the map's grid; None where nothing states one."""
        if self.calibration is None:
            return None
        scale, calibration = self.scale, self.calibration
        out = large_empty(scale.shape)

        def work(start: int, stop: int) -> None:
            out[start:stop] = calibration.uncertainty_of(scale[start:stop])

        for_each_slab(work, len(out), planes_per_slab(scale.shape), self.settings.threads)
        out.flags.writeable = False
        return out

    @cached_property
    def fdr_level(self) -> float | None:
        """Low-passed value above which the false-discovery rate asked for holds; None if none was."""
        return None if self.settings.fdr is None else fdr_threshold(self.solvent, self.settings.fdr)

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
        return self._whole(self.scale_stream)

    @cached_property
    def confidence(self) -> Array:
        """Confidence that each voxel is content, in [0, 1], on the map's grid."""
        return self._whole(self._confidence_stream)

    @cached_property
    def variability_limit(self) -> float:
        """Mean of the map where the scale is 1, relative to full scale."""
        count, total = self.sum_at_full_scale(self.scale, 0)
        return total / count / self.full_scale.value if count else float("nan")

    def sum_at_full_scale(self, scale: Array, start: int) -> tuple[int, float]:
        """Count the voxels of full scale in planes from ``start`` on, and sum the map there."""
        source = self.volume.data if self.resampled else self.working_map
        full = scale >= 1.0
        return int(np.count_nonzero(full)), float(
            source[start : start + len(scale)][full].sum(dtype=np.float64)
        )

    @cached_property
    def _coarse(self) -> tuple[Array, Array]:
        """Scale and confidence on the working grid, where that is coarser than the map's."""
        scale = np.empty(self.settings.shape, dtype=np.float32)
        for start, stop, part in self._scale_on_grid(0, len(scale)):
            scale[start:stop] = part
        return scale, self.curve(self.lowpassed)

    def _scale_on_grid(self, start: int, stop: int) -> Stream:
        return scale_stream(
            self.working_map,
            self.settings,
            self.full_scale.value,
            start,
            stop,
            zero=self.zero,
            calibration=self.calibration,
        )

    def _whole(self, stream: Callable[[int, int], Stream]) -> Array:
        out = large_empty(self.volume.shape)

        def work(start: int, stop: int) -> None:
            for first, last, part in stream(start, stop):
                out[first:last] = part

        self.prepare()
        for_each_slab(work, len(out), self.planes_per_thread, self.settings.threads)
        out.flags.writeable = False
        return out

    def _confidence_stream(self, start: int, stop: int) -> Stream:
        for a, b in slabs(stop - start, planes_per_slab(self.volume.shape)):
            yield start + a, start + b, self.confidence_planes(start + a, start + b)

    def prepare(self) -> None:
        """Compute what threads share, before they start."""
        if self.resampled:
            _ = self._coarse
            if self.b_factors is not None:
                _ = self._coarse_b

    @property
    def planes_per_thread(self) -> int:
        """Planes each thread should take: one long stretch, as the dilation works its ends twice."""
        return -(-self.volume.shape[0] // self.settings.threads)

    def scale_stream(self, start: int, stop: int) -> Stream:
        """Yield first plane, plane after the last, and local scale of planes ``start`` to ``stop``."""
        if not self.resampled:
            return self._scale_on_grid(start, stop)
        steps = slabs(stop - start, planes_per_slab(self.volume.shape))
        planes = ((start + a, start + b) for a, b in steps)
        return ((a, b, refine_slab(self._coarse[0], self.volume.shape, a, b)) for a, b in planes)

    def lowpass_planes(self, start: int, stop: int) -> Array:
        """Return planes ``start`` to ``stop`` of the low-passed map."""
        if self.resampled:
            return refine_slab(self.lowpassed, self.volume.shape, start, stop)
        return self.lowpassed[start:stop]

    def confidence_planes(self, start: int, stop: int) -> Array:
        """Return the confidence of planes ``start`` to ``stop`` of the map."""
        if self.resampled:
            return refine_slab(self._coarse[1], self.volume.shape, start, stop)
        return self.curve(self.lowpassed[start:stop])

    def b_factor_planes(self, what: Literal["values", "errors"], start: int, stop: int) -> Array:
        """Return planes of the relative B-factors or their errors on the map's grid, to be used at once."""
        assert self.b_factors is not None
        if self.resampled:
            return refine_slab(self._coarse_b[what], self.volume.shape, start, stop)
        return self.b_factors.planes(what, start, stop, self.volume.shape[1:])

    @cached_property
    def _coarse_b(self) -> dict[str, Array]:
        """Relative B-factors and errors on the working grid, where that is coarser than the map's."""
        assert self.b_factors is not None
        shape = self.settings.shape
        return {
            what: self.b_factors.planes(what, 0, shape[0], shape[1:]).copy() for what in ("values", "errors")
        }

    def amplify(self, power: float, **options: Any) -> Volume:
        """Return the map amplified by its scale, weighted by its confidence; see `occupy.amplify`."""
        changed = modify.amplify(self.volume.data, self.scale, power, confidence=self.confidence, **options)
        return self.volume.with_data(np.clip(changed, self.facts.low, self.facts.high))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Show itself in a notebook; see `occupy.report.notebook`."""
        # As for plot: the room above this one is loaded by name.
        from importlib import import_module

        bundle: dict[str, Any] = import_module("occupy.report.notebook").mime_bundle(self)
        return bundle

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
    if mask.frame.axes != volume.frame.axes:
        raise InputError(
            f"the {what} mask {mask.name} has its axes in the order {mask.frame.axes}, the map {volume.name} "
            f"in {volume.frame.axes}; resample the mask onto the map first"
        )
    return _on_working_grid(mask.data, settings)


def estimate(
    volume: Volume,
    settings: Settings | None = None,
    *,
    solvent_mask: Volume | None = None,
    target_mask: Volume | None = None,
    half_maps: tuple[Volume, Volume] | None = None,
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
    half_maps : tuple of Volume, optional
        Independent halves of the map, on its grid: the noise is then measured where the particle is, and no
        solvent is needed for it. For the calibrated estimator.
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
    doubts = input_notices(volume, facts) + setting_notices(resolved)
    if half_maps is not None and resolved.estimator != "calibrated":
        raise InputError(
            f"half-maps are of use to the calibrated estimator only, not to {resolved.estimator}"
        )
    solvent_data = _mask_data(solvent_mask, volume, "solvent", resolved)
    target_data = _mask_data(target_mask, volume, "target", resolved)
    report("low-pass", 1, 4)
    raw = _on_working_grid(volume.data, resolved)
    low = lowpass(raw, lowpass_band(resolved), threads=resolved.threads)
    working = low if resolved.mode == "occupancy" else raw
    report("full scale", 2, 4)
    found = None
    if resolved.estimator == "calibrated":
        difference = _half_difference(half_maps, volume, resolved)
        found = _calibrate(low, raw, facts, difference, resolved)
        doubts += calibration_notices(found)
    # The tiles are searched to the last voxel only where full scale comes from one.
    full = (
        find_full_scale(working, resolved)
        if found is None
        else calibrated_full_scale(working, resolved, found)
    )
    b_factors = None
    if resolved.bfactor and found is not None:
        b_factors = _b_factors(raw, low, half_maps, found, facts, resolved)
    if resolved.bfactor and b_factors is None:
        doubts.append(
            Notice("bfactor", "too little signal above the noise for relative B-factors: none written")
        )
    report("solvent", 3, 4)
    solvent = _fit_solvent(low, raw, solvent_data, facts, resolved)
    curve = confidence_curve(solvent, hedge=resolved.hedge, published=published)
    lowest = min(max(_scale_of_value(curve.crossing(0.5), full), 0.0), 0.999)
    notices = (*volume.notices, *doubts, *solvent_notices(solvent, curve, facts, full))
    for notice in notices:
        log.warning("%s", notice.text)
    target = (
        None if target_data is None else target_occupancy(working, target_data, resolved, full.calibration)
    )
    report("done", 4, 4)
    return Estimate(
        volume, resolved, facts, low, full, solvent, curve, lowest, target, notices, working, b_factors
    )


def _scale_of_value(value: float, full: FullScale) -> float:
    return value / full.value if full.calibration is None else full.calibration.of_value(value)


def _half_difference(
    halves: tuple[Volume, Volume] | None, volume: Volume, settings: ResolvedSettings
) -> Array | None:
    """Return half the difference of two half-maps, low-passed: noise as strong as that of their mean."""
    if halves is None:
        return None
    for half in halves:
        if half.shape != volume.shape or half.frame.axes != volume.frame.axes:
            raise InputError(
                f"the half-map {half.name} is {half.shape[::-1]} voxels, the map {volume.name} "
                f"{volume.shape[::-1]}; both must be on one grid"
            )
    difference = _on_working_grid((halves[0].data - halves[1].data) / 2, settings)
    if not difference.any():
        raise InputError(f"the half-maps {halves[0].name} and {halves[1].name} are equal: they are no halves")
    return lowpass(difference, lowpass_band(settings), threads=settings.threads)


def _calibrate(
    low: Array, raw: Array, facts: MapFacts, difference: Array | None, settings: ResolvedSettings
) -> Calibration | None:
    """Find noise floor and full scale, on as few voxels as will do."""
    strides = [max(1, int(tuning.MAP.stride / a)) for a in settings.voxel_size]
    steps = (strides[0], strides[1], strides[2])
    every = tuple(slice(None, None, s) for s in steps)
    maxima = strided_maxima(low, settings, steps)
    noisy = _noisy_places(raw, facts, settings, steps)
    floor = None
    if difference is not None:
        floor = noise_floor(strided_maxima(difference, settings, steps)[noisy])
    spacing = tuple(a * s for a, s in zip(settings.voxel_size, steps, strict=True))
    return calibrate(
        low[every], maxima, spacing, strides=steps, solvent=noisy, floor=floor, masked=facts.masked
    )


def _noisy_places(
    raw: Array, facts: MapFacts, settings: ResolvedSettings, strides: tuple[int, int, int]
) -> npt.NDArray[np.bool_]:
    """Tell, at every n-th voxel, where noise is as reconstructed: no corners, nothing a mask made flat."""
    inside = inscribed_ellipsoid(settings.shape)
    planes = range(0, len(raw), strides[0])
    places = np.stack([inside(z, z + 1)[0, :: strides[1], :: strides[2]] for z in planes])
    if facts.masked:
        places &= raw[tuple(slice(None, None, s) for s in strides)] != np.float32(facts.flat_value)
    return places


def _b_factors(
    raw: Array,
    low: Array,
    half_maps: tuple[Volume, Volume] | None,
    found: Calibration,
    facts: MapFacts,
    settings: ResolvedSettings,
) -> BFactors | None:
    """Find relative B-factors where the local maxima say content, against the noise where they say none."""

    def content(sides: tuple[int, int, int]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        every = tuple(slice(None, None, s) for s in sides)
        maxima = strided_maxima(low, settings, sides)
        solvent = _noisy_places(raw, facts, settings, sides)
        return found.is_content(low[every], maxima), solvent & (maxima < np.float32(found.floor))

    halves = None
    if half_maps is not None:
        halves = _on_working_grid(half_maps[0].data, settings), _on_working_grid(half_maps[1].data, settings)
    return relative_b_factors(raw, settings.voxel_size, content, halves)


def _fit_solvent(
    low: Array, raw: Array, mask: Array | None, facts: MapFacts, settings: ResolvedSettings
) -> SolventModel:
    """Fit the solvent on one side of a mask, or inside the box without what another mask made equal."""
    region = inscribed_ellipsoid(settings.shape) if mask is None else solvent_side(low, mask)
    flat = facts.masked and mask is None
    if flat:
        region = _without_flat(region, raw, facts.flat_value)
    return fit_solvent(
        low,
        region,
        one_sided=mask is not None,
        published=settings.estimator == "nlf" and not flat,
        threads=settings.threads,
    )


def _without_flat(region: Region, raw: Array, flat: float) -> Region:
    """Leave the voxels a mask has made equal out of a region, unless next to nothing would remain."""
    rest = both(region, lambda start, stop: raw[start:stop] != np.float32(flat))
    left = sum(int(np.count_nonzero(rest(z, z + 1))) for z in range(len(raw)))
    return rest if left >= LEAST_REGION * raw.size else region
