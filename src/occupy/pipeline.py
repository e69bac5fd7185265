"""From a map to its local scale and its confidence.

`estimate` finds all numbers: full scale, solvent model, confidence curve. The maps themselves are
computed slab by slab when they are wanted (`Estimate.maps`), so that no more than the input, its low-passed
copy and a few slabs are in memory at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import frexp
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy import tuning
from occupy.bfactor import BFactors, featureless, relative_b_factors
from occupy.calibration import Calibration, calibrate, noise_floor
from occupy.checks import MapFacts, input_notices, look_at
from occupy.confidence import (
    ConfidenceCurve,
    SolventModel,
    confidence_curve,
    inscribed_ellipsoid,
    solvent_notices,
    solvent_of,
)
from occupy.errors import InputError, Notice
from occupy.estimated import Estimate as Estimate
from occupy.numerics.fourier import fourier_crop, lowpass, lowpass_onto
from occupy.numerics.histogram import Histogram
from occupy.numerics.parallel import one_blas_thread, ordinary_unit
from occupy.resolve import ResolvedSettings, resolve
from occupy.scale import (
    FullScale,
    TargetOccupancy,
    find_full_scale,
    lowpass_band,
    strided_maxima,
)
from occupy.settings import Settings
from occupy.volume import Progress as Progress
from occupy.volume import Volume

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]


def _on_working_grid(array: npt.NDArray[np.floating], settings: ResolvedSettings) -> Array:
    if array.shape == settings.shape:
        return np.asarray(array, dtype=np.float32)
    if settings.estimator == "calibrated":
        return _nearest(array, settings.shape)
    return fourier_crop(array, settings.shape, threads=settings.threads)


def _nearest(array: npt.NDArray[Any], shape: tuple[int, int, int]) -> Array:
    """Take the values nearest to the voxels of another grid: what a mask made equal stays equal."""
    at = [
        np.minimum(np.rint(np.arange(n) * (o / n)).astype(np.intp), o - 1)
        for n, o in zip(shape, array.shape, strict=True)
    ]
    return np.asarray(array[at[0]][:, at[1]][:, :, at[2]], dtype=np.float32)


def _lowpassed(data: npt.NDArray[np.floating], settings: ResolvedSettings) -> Array:
    """Low-pass a map (on its own grid, or on the working grid) onto the working grid."""
    if settings.estimator != "calibrated":
        return lowpass(_on_working_grid(data, settings), lowpass_band(settings), threads=settings.threads)
    extent = [n * a / settings.lowpass for n, a in zip(settings.shape, settings.voxel_size, strict=True)]
    radius = (extent[0], extent[1], extent[2])
    return lowpass_onto(data, settings.shape, radius, threads=settings.threads)


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
    # A small target must not fall between the voxels of a coarse grid.
    return (
        mask.data
        if what == "target" and settings.estimator == "calibrated"
        else _on_working_grid(mask.data, settings)
    )


@one_blas_thread()
def estimate(
    volume: Volume,
    settings: Settings | None = None,
    *,
    solvent_mask: Volume | None = None,
    target_mask: Volume | None = None,
    half_maps: tuple[Volume, Volume] | None = None,
    progress: Progress | None = None,
) -> Estimate:
    """Find full scale, solvent model and confidence of a map in memory.

    Parameters, errors and result are those of `occupy.estimate`, whose ``estimate`` this is.
    """
    settings = settings or Settings()
    resolved = resolve(settings, volume.shape, volume.voxel_size)
    report = progress or (lambda *_: None)
    report("reading", 0, 4)
    facts = look_at(volume, threads=resolved.threads)
    unit = _unit_of(volume.name, facts.low, facts.high)
    if unit != 1:
        halves = half_maps and (_in_unit(half_maps[0], unit), _in_unit(half_maps[1], unit))
        masks = {"solvent_mask": solvent_mask, "target_mask": target_mask}
        scaled = estimate(_in_unit(volume, unit), settings, **masks, half_maps=halves, progress=progress)
        return _from_unit(scaled, volume, facts, unit)
    warnings = [*volume.notices, *input_notices(volume, facts), *resolved.notices(volume.voxel_size)]
    _check_halves(half_maps, volume, resolved)
    solvent_data = _mask_data(solvent_mask, volume, "solvent", resolved)
    target_data = _mask_data(target_mask, volume, "target", resolved)
    report("low-pass", 1, 4)
    low = _lowpassed(volume.data, resolved)
    # Of the calibrated estimator's maps only what a mask made equal is wanted.
    plain = resolved.estimator == "calibrated" and not facts.masked
    raw = low if plain else _on_working_grid(volume.data, resolved)
    maps = _Maps(volume, raw, low, half_maps, facts, resolved)
    report("full scale", 2, 4)
    full, about_scale = _full_scale(maps)
    b_factors, smooth, about_detail = _detail(maps, full.calibration)
    report("solvent", 3, 4)
    solvent = solvent_of(low, raw, solvent_data, facts, resolved)
    curve = confidence_curve(solvent, hedge=resolved.hedge, published=resolved.estimator == "nlf")
    lowest = min(max(_scale_of_value(curve.crossing(0.5), full), 0.0), 0.999)
    warnings += [*about_scale, *about_detail, *solvent_notices(solvent, curve, facts, full)]
    for notice in warnings:
        log.warning("%s", notice.text)
    est = Estimate(
        volume,
        resolved,
        facts,
        low,
        full,
        solvent,
        curve,
        lowest,
        None,
        tuple(warnings),
        maps.working,
        b_factors,
        smooth,
    )
    if target_data is not None:
        est = replace(est, target=_target(est, target_data))
    report("done", 4, 4)
    return est


def _target(est: Estimate, mask: Array) -> TargetOccupancy:
    if est.calibration is None:
        return TargetOccupancy.of(est.working_map, mask, est.settings)
    return TargetOccupancy.read(est.maps["occupancy"], mask, est.calibration, est.settings.tau)


@dataclass(frozen=True, eq=False)
class _Maps:
    """What full scale and B-factors are found from: the map on the working grid, low-passed too, and more."""

    volume: Volume
    raw: Array
    low: Array
    half_maps: tuple[Volume, Volume] | None
    facts: MapFacts
    settings: ResolvedSettings

    @property
    def working(self) -> Array:
        """What the scale is taken of."""
        return self.low if self.settings.mode == "occupancy" else self.raw


def _full_scale(maps: _Maps) -> tuple[FullScale, list[Notice]]:
    """Find full scale: by calibration where wanted and where there is enough density, otherwise by tiles."""
    if maps.settings.estimator != "calibrated":
        return find_full_scale(maps.working, maps.settings), []
    found = _calibrate(maps)
    # The tiles are searched to the last voxel only where full scale comes from one.
    full = (
        find_full_scale(maps.working, maps.settings)
        if found is None
        else FullScale.calibrated(maps.working, maps.settings, found)
    )
    return full, _calibration_notices(found)


def _in_unit(volume: Volume, unit: float) -> Volume:
    return volume.with_data(volume.data * np.float32(1 / unit))


def _from_unit(est: Estimate, volume: Volume, facts: MapFacts, unit: float) -> Estimate:
    """Return what was found of a map divided by a power of two in the map's own units."""
    low = est.lowpassed * np.float32(unit)
    return replace(
        est,
        volume=volume,
        facts=facts,
        lowpassed=low,
        working_map=low if est.working_map is est.lowpassed else est.working_map * np.float32(unit),
        full_scale=_full_scale_in(unit, est.full_scale),
        solvent=_solvent_in(unit, est.solvent),
        curve=_curve_in(unit, est.curve),
        target=est.target and replace(est.target, full_scale=est.target.full_scale * unit),
    )


def _scale_of_value(value: float, full: FullScale) -> float:
    return value / full.value if full.calibration is None else full.calibration.of_value(value)


def _check_halves(halves: tuple[Volume, Volume] | None, volume: Volume, settings: ResolvedSettings) -> None:
    if halves is not None and settings.estimator != "calibrated":
        raise InputError(
            f"half-maps are of use to the calibrated estimator only, not to {settings.estimator}"
        )
    for half in halves or ():
        if half.shape != volume.shape or half.frame.axes != volume.frame.axes:
            raise InputError(
                f"the half-map {half.name} is {half.shape[::-1]} voxels, the map {volume.name} "
                f"{volume.shape[::-1]}; both must be on one grid"
            )


def _half_difference(halves: tuple[Volume, Volume], settings: ResolvedSettings) -> Array:
    """Return half the difference of two half-maps, low-passed: noise as strong as that of their mean."""
    difference = (halves[0].data - halves[1].data) / 2
    if not np.isfinite(difference.sum()):
        bad = next((h for h in halves if not np.isfinite(h.data).all()), halves[0])
        raise InputError(
            f"the half-map {bad.name} has voxels that are not finite numbers (NaN or infinite); repair it, "
            "or leave half-maps out (--no-neighbours, if it was found beside the map)"
        )
    if not difference.any():
        raise InputError(f"the half-maps {halves[0].name} and {halves[1].name} are equal: they are no halves")
    return _lowpassed(difference, settings)


def _calibrate(maps: _Maps) -> Calibration | None:
    """Find noise floor and full scale, on as few voxels as will do."""
    settings = maps.settings
    strides = [max(1, int(tuning.MAP.stride / a)) for a in settings.voxel_size]
    steps = (strides[0], strides[1], strides[2])
    every = tuple(slice(None, None, s) for s in steps)
    maxima = strided_maxima(maps.low, settings, steps)
    noisy = _noisy_places(maps, steps)
    floor = None
    if maps.half_maps is not None:
        difference = _half_difference(maps.half_maps, settings)
        floor = noise_floor(strided_maxima(difference, settings, steps)[noisy])
    spacing = tuple(a * s for a, s in zip(settings.voxel_size, steps, strict=True))
    return calibrate(
        maps.low[every], maxima, spacing, strides=steps, solvent=noisy, floor=floor, masked=maps.facts.masked
    )


def _noisy_places(maps: _Maps, strides: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Tell, at every n-th voxel, where noise is as reconstructed: no corners, nothing a mask made flat."""
    inside = inscribed_ellipsoid(maps.settings.shape)
    planes = range(0, len(maps.raw), strides[0])
    places = np.stack([inside(z, z + 1)[0, :: strides[1], :: strides[2]] for z in planes])
    if maps.facts.masked:
        places &= maps.raw[tuple(slice(None, None, s) for s in strides)] != np.float32(maps.facts.flat_value)
    return places


def _b_factors(maps: _Maps, found: Calibration | None) -> tuple[BFactors | None, list[Notice]]:
    """Find relative B-factors where the local maxima say content, against the noise where they say none."""
    settings = maps.settings
    if not settings.bfactor:
        return None, []

    fields = None
    if found is not None:
        halves = maps.half_maps and (maps.half_maps[0].data, maps.half_maps[1].data)
        fields = relative_b_factors(
            maps.volume.data, maps.volume.voxel_size, _content_of_blocks(maps, found), halves
        )
    if fields is not None:
        return fields, []
    text = "too little signal above the noise for relative B-factors: none written"
    return None, [Notice("bfactor", text)]


def _content(maps: _Maps, found: Calibration) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return where on the working grid there is content, and where only noise."""
    maxima = strided_maxima(maps.low, maps.settings, (1, 1, 1))
    noise = _noisy_places(maps, (1, 1, 1)) & (maxima < np.float32(found.floor))
    return found.is_content(maps.low, maxima), noise


def _featureless(maps: _Maps, found: Calibration | None) -> tuple[Array | None, list[Notice]]:
    """Find content without detail, where B-factors are wanted: 1 there, on the working grid."""
    s, t = maps.settings, tuning.B_FACTOR
    finest = max(t.detail, 2.05 * max(*s.voxel_size, *maps.volume.voxel_size))
    if not s.bfactor or found is None or finest > 0.9 * s.lowpass:
        return None, []
    finer = _lowpassed(maps.volume.data, replace(s, lowpass=finest))
    content, empty = _content(maps, found)
    mask = featureless(finer - maps.low, maps.low, content, empty, s.voxel_size[0])
    if mask is None:
        return None, []
    share = np.count_nonzero(mask) / np.count_nonzero(content)
    text = (
        f"{share:.0%} of the content has no detail beyond {s.lowpass:.3g} Å, like lipid and detergent: "
        "what reads there is no occupancy (see mask_featureless)"
    )
    return mask.astype(np.float32), [Notice("featureless", text)] * bool(share > t.belt)


def _detail(maps: _Maps, found: Calibration | None) -> tuple[BFactors | None, Array | None, list[Notice]]:
    """Find what `--bfactor` asks for: relative B-factors, and content without detail."""
    fields, about_fields = _b_factors(maps, found)
    mask, about_mask = _featureless(maps, found)
    return fields, mask, about_fields + about_mask


def _content_of_blocks(
    maps: _Maps, found: Calibration
) -> Callable[[tuple[int, int, int]], tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """Return what tells, from the sides of blocks of voxels, which blocks are content and which are not."""
    places = _content(maps, found)

    def content(sides: tuple[int, int, int]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        at = [
            np.minimum(np.rint(np.arange(0, n, side) * (m / n)).astype(np.intp), m - 1)
            for n, m, side in zip(maps.volume.shape, maps.settings.shape, sides, strict=True)
        ]
        return places[0][np.ix_(*at)], places[1][np.ix_(*at)]

    return content


def _calibration_notices(found: Calibration | None) -> list[Notice]:
    """Return what is doubtful about a calibration."""
    if found is None:
        text = "too little density above the noise to calibrate on: full scale is that of the fullest tile"
        return [Notice("calibration", text)]
    if found.noise > 0.5:
        text = f"noise alone reads as much as {found.noise:.2f} of a full part: low occupancies are uncertain"
        return [Notice("noise", text)]
    other = found.other_level
    if other is not None:
        text = (
            f"ambiguous level: full may be {found.full:.4g} map units (taken) or {other * found.full:.4g}, "
            f"by which parts read {1 / other:.2f} times as much; a part that is known to be full settles it"
        )
        return [Notice("ambiguous-level", text)]
    return []


def _unit_of(name: str, low: float, high: float, largest: int = 100) -> float:
    """Return the power of two in which to measure a map; 1 for ordinary values.

    Parameters
    ----------
    name : str
        Of the map.
    low, high : float
        Its range of values.
    largest : int
        Up to 2¹⁰⁰ products of four values, and bins of a histogram of them, still are 32-bit numbers.

    Raises
    ------
    InputError
        Where not even the input's own values are safe in 32 bits.
    """
    peak = max(abs(low), abs(high))
    if abs(frexp(peak)[1]) > largest:
        raise InputError(
            f"{name}: its values reach {peak:.2g}, which 32-bit numbers can't be computed with; multiply the "
            f"map by about {1 / max(peak, 1e-300):.0e} first"
        )
    return ordinary_unit(peak)


def _full_scale_in(unit: float, full: FullScale) -> FullScale:
    """Return a full scale found in another unit in the map's own."""
    found = full.calibration
    return replace(
        full,
        value=full.value * unit,
        largest=replace(full.largest, value=full.largest.value * unit),
        smallest=replace(full.smallest, value=full.smallest.value * unit),
        calibration=found and replace(found, floor=found.floor * unit, full=found.full * unit),
    )


def _histogram_in(unit: float, found: Histogram) -> Histogram:
    return replace(found, low=found.low * unit, high=found.high * unit)


def _solvent_in(unit: float, model: SolventModel) -> SolventModel:
    """Return a solvent model found in another unit in the map's own."""
    return replace(
        model,
        mean=model.mean * unit,
        sigma=model.sigma * unit,
        height=model.height / unit,
        region=_histogram_in(unit, model.region),
        everything=_histogram_in(unit, model.everything),
    )


def _curve_in(unit: float, curve: ConfidenceCurve) -> ConfidenceCurve:
    """Return a confidence curve found in another unit in the map's own."""
    return replace(curve, low=curve.low * unit, high=curve.high * unit)
