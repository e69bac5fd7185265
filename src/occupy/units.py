"""Maps of very large or very small values are estimated in units near one, so that no product overflows."""

from __future__ import annotations

from dataclasses import replace
from math import frexp

from occupy.confidence import ConfidenceCurve
from occupy.errors import InputError
from occupy.numerics.histogram import Histogram
from occupy.numerics.parallel import ordinary_unit
from occupy.scale import FullScale
from occupy.solvent import SolventModel

# Products of four values, and bins of a histogram of them, still are ordinary 32-bit numbers.
_LARGEST = 100


def unit_of(name: str, low: float, high: float) -> float:
    """Return the power of two in which to measure a map; 1 for ordinary values.

    Parameters
    ----------
    name : str
        Of the map.
    low, high : float
        Its range of values.

    Raises
    ------
    InputError
        Where not even the input's own values are safe in 32 bits.
    """
    peak = max(abs(low), abs(high))
    if abs(frexp(peak)[1]) > _LARGEST:
        raise InputError(
            f"{name}: its values reach {peak:.2g}, which 32-bit numbers can't be computed with; multiply the "
            f"map by about {1 / max(peak, 1e-300):.0e} first"
        )
    return ordinary_unit(peak)


def full_scale_in(unit: float, full: FullScale) -> FullScale:
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


def solvent_in(unit: float, model: SolventModel) -> SolventModel:
    """Return a solvent model found in another unit in the map's own."""
    return replace(
        model,
        mean=model.mean * unit,
        sigma=model.sigma * unit,
        height=model.height / unit,
        region=_histogram_in(unit, model.region),
        everything=_histogram_in(unit, model.everything),
    )


def curve_in(unit: float, curve: ConfidenceCurve) -> ConfidenceCurve:
    """Return a confidence curve found in another unit in the map's own."""
    return replace(curve, low=curve.low * unit, high=curve.high * unit)
