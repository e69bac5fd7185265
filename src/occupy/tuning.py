"""Every tuned number: value, unit, where it comes from, and how much it matters.

One frozen dataclass per estimator; code reads the instances (`SHARED`, `MAP`, `SET`, …) when it runs, so that
`python -m benchmarks.sensitivity` can move each number by 30 % and write docs/explanation/tuning.md.

A number is *tuned* where a benchmark chose it, and *fixed* where it follows from the method or was found to
change errors by less than 2 %: a round number then, which nobody needs to tune.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

COLLECTION = "tuning half of benchmarks/accuracy"
KINDS = "maps of eight kinds of particle by two forward models, and RELION's: benchmarks/accuracy/kinds.py"
SETS = "14 simulated sets and three of RELION's; none of those reported in docs/explanation/sets.md"


def tuned(value: float, unit: str, what: str, source: str = COLLECTION, *, effect: str = "") -> Any:
    """Return a field that holds a number which a benchmark chose.

    Parameters
    ----------
    value : float
        The number.
    unit : str
        Its unit; empty where it has none.
    what : str
        What it is, in a sentence.
    source : str
        The benchmark that chose it.
    effect : str
        Relative change of the mean error of partial parts when the number is 30 % lower / higher, and that of
        the stated error; from `benchmarks.sensitivity`.
    """
    metadata = {"kind": "tuned", "unit": unit, "what": what, "source": source, "effect": effect}
    return field(default=value, metadata=metadata)


def fixed(value: float, unit: str, what: str, source: str = "round number") -> Any:
    """Return a field that holds a number which need not be tuned; parameters as for `tuned`."""
    return field(default=value, metadata={"kind": "fixed", "unit": unit, "what": what, "source": source})


@dataclass(frozen=True)
class _SharedTuning:
    """Numbers of the local scale, of one map and of sets."""

    radius: float = tuned(
        5.6,
        "Å",
        "Radius of the neighbourhood whose maximum is the local scale, in sets.",
        effect="+3% / +5% (sets)",
    )
    noise_power: float = tuned(
        1.3,
        "",
        "Noise and signal add up as (sᵖ + nᵖ)^(1/p) in a local maximum.",
        effect="+23% / +15% (maps); -9% / +3% (sets)",
    )


@dataclass(frozen=True)
class _MapTuning:
    """Numbers of the calibrated estimator for one map."""

    lowpass: float = tuned(
        9.0, "Å", "Low-pass: a length of proteins.", effect="+10% / +37%; stated error +3% / -25%"
    )
    floor_of_mode: float = tuned(
        1.155,
        "modes",
        "Noise floor in modes of the local maxima of noise.",
        effect="+17% / +11%; stated error -2% / +12%",
    )
    halves_over_solvent: float = fixed(
        1.2, "floors", "Half-maps that show so many times the solvent's noise are used instead of it."
    )
    core: float = tuned(
        0.4,
        "maxima",
        "A voxel is inside density from this share of its own local maximum on.",
        effect="+13% / -12%; stated error -8% / +12%",
    )
    above_floor: float = tuned(
        1.83,
        "floors",
        "Local maxima below are not looked at for full scale.",
        effect="+0% / -4%; stated error +0% / +7%",
    )
    least_share: float = tuned(
        0.1,
        "highest maximum",
        "Nor those below this share of the highest.",
        effect="+3% / -1%; stated error -2% / +0%",
    )
    least_places: float = fixed(150, "places", "With fewer there is nothing to calibrate on.")
    grid: float = fixed(3.9, "per low-pass", "Voxels of the working grid in a low-pass resolution, at least.")
    radius: float = tuned(
        5.15,
        "Å",
        "Radius of the neighbourhood whose maximum is the local scale.",
        KINDS,
        effect="+35% / +0%; stated error -24% / +0%",
    )
    most_voxels: float = fixed(2.24, "voxels", "The same radius at most: 57 voxels of the working grid.")
    stride: float = tuned(
        5.5,
        "Å",
        "Distance of the places looked at for full scale, at most.",
        effect="-5% / -1%; stated error +10% / +5%",
    )
    span: float = fixed(2.3, "ln", "Range of the histogram of local maxima: a factor of ten.")
    relative_error: float = tuned(
        0.05, "", "Relative standard error of partial readings.", effect="+0% / +0%; stated error -2% / +3%"
    )
    noise_error: float = tuned(
        0.2, "floors", "Standard error of readings, from noise.", effect="-4% / +7%; stated error -4% / +3%"
    )
    least_error: float = fixed(0.01, "", "Standard error of every reading at least.")
    error_scale: float = tuned(
        1.62,
        "",
        "Factor of all standard errors: with ± 1.96 of them 95 % of parts of new particles hold.",
        effect="+0% / +0%; stated error -18% / +18%",
    )
    ambiguous: float = fixed(
        0.1, "", "Weight of a second level of full, relative to the first, from which on a warning is given."
    )
    averaging: float = tuned(
        6.5,
        "Å",
        "Gaussian over which maxima are averaged before full scale is sought.",
        KINDS,
        effect="+2% / +33%; stated error +2% / -14%",
    )
    edge: float = tuned(
        0.99,
        "of places",
        "The highest reading, but for outliers.",
        KINDS,
        effect="-4% / +2%; stated error +3% / -2%",
    )
    below_edge: float = tuned(
        0.13,
        "highest reading",
        "Readings so close below it are of full parts where half of the places read so; × (½ + their share).",
        KINDS,
        effect="-10% / +17%; stated error +8% / -9%",
    )
    nearly_full: float = fixed(0.25, "full scales", "Places so close to full scale count as full.")
    level_error: float = tuned(
        0.05, "ln", "Standard error of full scale.", KINDS, effect="+0% / +0%; stated error -2% / +3%"
    )
    crowd_below: float = fixed(0.15, "ln", "A level that most places gather around so far below may be full.")
    crowd_share: float = fixed(0.4, "of places", "Share of the places there.")
    crowd_chance: float = fixed(0.15, "", "Chance of that.")
    most_full: float = fixed(
        0.9,
        "",
        "Chance to be full before a part is looked at, at most; else the share of places that read so.",
    )
    full_spread: float = tuned(
        0.05,
        "full scales",
        "Standard deviation of readings of full parts, per share of places that read nearly full.",
        KINDS,
        effect="-4% / +8%; stated error +2% / -4%",
    )
    crowding_reach: float = fixed(25.0, "Å", "Gaussian over which density far around is averaged.")
    crowding_power: float = tuned(
        0.15,
        "",
        "Readings grow with this power of the density far around.",
        KINDS,
        effect="-1% / +0%; stated error -1% / +3%",
    )
    leakage_reach: float = tuned(
        4.2,
        "Å",
        "Gaussian over which a reading is compared with what is around.",
        KINDS,
        effect="-5% / +10%; stated error +6% / -3%",
    )
    leakage_share: float = tuned(
        0.72,
        "",
        "A reading below this share of its neighbours' is partly theirs.",
        KINDS,
        effect="+45% / -2%; stated error -18% / +6%",
    )


@dataclass(frozen=True)
class _SetTuning:
    """Numbers of the estimator for a set of maps."""

    finest: float = fixed(
        8.0, "Å", "Finer details are not compared: resolution would weigh more than occupancy."
    )
    working_voxel: float = tuned(
        2.75,
        "Å",
        "Voxel of the working grid: a third of the finest resolution.",
        SETS,
        effect="+0% / +7%; stated error +0% / -3%",
    )
    least_voxels: float = fixed(2.2, "voxels", "Common resolution at least.")
    behind: float = fixed(
        1.6, "medians", "A class less resolved than this does not set the common resolution."
    )
    enough_signal: float = tuned(
        0.3,
        "",
        "Signal-to-noise ratio down to which a shell of a class is used.",
        SETS,
        effect="-1% / +5%; stated error +1% / -2%",
    )
    least_shrinkage: float = fixed(1e-3, "", "A shell shrunk to less holds nothing to bring back.")
    gain_smoothing: float = fixed(2.0, "shells", "Smoothing of matched factors.")
    most_gain: float = fixed(3.0, "", "Matched factors stay between this and its inverse.")
    margin: float = fixed(15.0, "Å", "Solvent kept around the content.")
    envelope: float = fixed(3.0, "Å", "Smoothing of the mean map before its envelope is drawn …")
    envelope_level: float = fixed(0.1, "99.5 % value", "… at this share of its highest values.")
    solvent_distance: float = fixed(12.0, "Å", "Distance from the content on that counts as solvent.")
    product_window: float = tuned(
        3.0,
        "Å",
        "Gaussian over which products of maps are averaged.",
        SETS,
        effect="+3% / -7%; stated error +6% / -2%",
    )
    same_class_weight: float = fixed(0.5, "", "Weight of a class's product with itself.")
    evidence_window: float = tuned(
        4.0,
        "Å",
        "Gaussian over which evidence for a difference is pooled.",
        SETS,
        effect="-1% / +2%; stated error +0% / -1%",
    )
    residual_window: float = fixed(8.0, "Å", "Gaussian over which the misfit of a class is averaged.")
    most_null: float = fixed(30.0, "expected scatter", "The empirical null is at most this.")
    null_bandwidth: float = fixed(0.3, "ln", "Smoothing of the histogram of scatter.")
    null_peak: float = fixed(0.3, "highest peak", "A peak of that histogram counts from this height on.")
    leakage_reach: float = tuned(
        4.5,
        "Å",
        "Gaussian over which a ratio is compared with its neighbours.",
        SETS,
        effect="+5% / +11%; stated error -11% / -0%",
    )
    leakage_error: float = tuned(
        0.5,
        "",
        "Standard error from leakage, in spreads of occupancy within that reach.",
        SETS,
        effect="+0% / +0%; stated error -9% / +8%",
    )
    error_scale: float = tuned(
        0.7, "", "Factor of all other standard errors.", SETS, effect="+0% / +0%; stated error -13% / +12%"
    )
    conserved: float = fixed(
        0.15, "ln", "Places whose ratios all are nearer to their commonest are conserved …"
    )
    conserved_power: float = fixed(0.05, "99.5 % value", "… where the mean map has this share of its power.")
    core: float = fixed(
        0.15, "maxima", "A voxel is inside density from this share of its own local maximum on …"
    )
    content: float = fixed(0.2, "99.5 % value", "… where that maximum reaches this share of the highest.")
    bandwidth: float = tuned(
        0.08,
        "ln",
        "Smoothing of the histogram of readings.",
        SETS,
        effect="-8% / +4%; stated error +3% / -2%",
    )
    full_peak: float = fixed(
        0.35, "highest peak", "A peak of that histogram may be full from this height on."
    )
    region_spread: float = fixed(0.5, "", "Spread of regions, in spreads of voxels above the full peak …")
    near_peak: float = tuned(
        0.7,
        "full scales",
        "… and, where that is more, of those between this and the peak …",
        SETS,
        effect="+9% / -14%; stated error +1% / -18%",
    )
    spread_below: float = tuned(
        0.8, "", "… by this factor.", SETS, effect="-7% / +9%; stated error -7% / +1%"
    )
    full_prior: float = tuned(
        0.8,
        "",
        "Chance that a part is full before it is looked at …",
        SETS,
        effect="-12% / +14%; stated error +9% / -9%",
    )
    prior_of_change: float = tuned(
        0.2,
        "",
        "… less this for one that surely differs between classes.",
        SETS,
        effect="+4% / -3%; stated error -3% / +3%",
    )


@dataclass(frozen=True)
class _ComponentTuning:
    """Numbers of the search for parts that come and go together, and of the check of alignment."""

    alike: float = fixed(0.7, "", "Correlation over the classes above which profiles belong together.")
    least_difference: float = tuned(
        0.07,
        "",
        "Standard deviation over the classes below which voxels are left out.",
        SETS,
        effect="-11% / +5%",
    )
    profile_window: float = tuned(
        3.0, "Å", "Gaussian over which occupancies are averaged before.", SETS, effect="-2% / +8%"
    )
    least_volume: float = fixed(4000.0, "Å³", "Smaller parts are not reported: 5 kDa of protein.")
    most: int = fixed(40, "", "Components reported at most.")
    soft_edge: float = fixed(6.0, "Å", "Distance over which a written mask falls to 0.")
    most_shift: float = fixed(
        2.5, "Å", "Larger shifts are warned about, unless below a fifth of the resolution."
    )
    most_angle: float = fixed(2.5, "°", "Larger rotations are warned about.")
    least_agreement: float = fixed(
        0.5, "", "Correlation with the other classes below which a warning is given."
    )


@dataclass(frozen=True)
class _BFactorTuning:
    """Numbers of the estimate of relative B-factors."""

    coarsest: float = tuned(
        12.0, "Å", "Resolution at which the bands begin.", effect="-2% / -4%; stated error +9% / -1%"
    )
    finest: float = fixed(3.0, "Å", "Resolution at which they end at the latest, or 2.4 voxels.")
    bands: int = fixed(4, "", "Bands.")
    width: float = tuned(
        0.025, "1/Å", "Standard deviation of a band.", effect="+24% / -4%; stated error -2% / -6%"
    )
    window: float = tuned(
        5.0, "Å", "Gaussian over which power is averaged.", effect="+2% / +2%; stated error +18% / -8%"
    )
    place: float = tuned(4.0, "Å", "Distance of places, at most.", effect="+1% / +2%; stated error -1% / +2%")
    least_signal: float = tuned(
        4.0,
        "σ of noise",
        "Power above noise from which on a band counts at a place.",
        effect="+6% / -5%; stated error -1% / +2%",
    )
    least_share: float = fixed(0.5, "of content", "A band counts at all where it does so at this share.")
    least_places: float = fixed(50, "places", "With fewer nothing is estimated.")
    recovered: float = tuned(
        0.5,
        "",
        "Share of a chain's ΔB that leakage from its neighbours leaves.",
        effect="+22% / -4%; stated error +6% / +1%",
    )
    structure_error: float = fixed(30.0, "Å²", "Standard error from what the structure itself does.")
    relative_error: float = fixed(0.4, "", "Relative standard error: the recovered share was 0.2 to 0.6.")
    detail: float = fixed(4.8, "Å", "Detail that belts lack lies between this and the low-pass.")
    detail_window: float = fixed(8.0, "Å", "Gaussian over which detail is compared with density.", KINDS)
    detail_share: float = fixed(0.45, "90 % value", "Content with less of it is featureless.", KINDS)
    detail_signal: float = fixed(2.0, "noise", "Power of detail above which any is told.", KINDS)
    belt: float = fixed(0.12, "of content", "A warning is given from so much of it on.", KINDS)


SHARED = _SharedTuning()
MAP = _MapTuning()
SET = _SetTuning()
COMPONENTS = _ComponentTuning()
B_FACTOR = _BFactorTuning()
