"""From the maps of one experiment to the occupancy of every part in every class.

The way of the data: maps → common working grid → one scaling (gains per shell, one low-pass) → ratios of
each class to the mean → differences that are more than noise → level of the mean → occupancy per class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy import tuning
from occupy.ensemble.comparison import (
    FullLevel,
    Null,
    compare,
    conserved_region,
    content_of,
    power_of_mean,
    ratio_variance,
    scatter_of,
    shrinkage_weight,
)
from occupy.ensemble.execution import (
    Execution,
    Executor,
    LocalExecutor,
    MakeStorage,
    MemoryStorage,
    Storage,
)
from occupy.ensemble.members import Member, OnGrid, read_members, shares_of
from occupy.ensemble.scaling import ScaledMaps, scale_maps
from occupy.errors import InputError, Notice
from occupy.numerics.morphology import ball_widths, box_of_ball, dilate
from occupy.numerics.smoothing import scipy_smoothed
from occupy.settings import short_repr
from occupy.statistics.context import Neighbourhood, without_leakage
from occupy.statistics.noise import without_noise
from occupy.statistics.posterior import chance_of_full, posterior_error, posterior_mean
from occupy.volume import LazyMap, Progress

Array = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]


def freeze(*things: Any) -> None:
    """Make the arrays that objects hold read-only."""
    for array in (value for thing in things for value in vars(thing).values()):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False


@dataclass(frozen=True, eq=False)
class ClassEstimate:
    """What one class shows, on the working grid's content box.

    Attributes
    ----------
    relative : ndarray
        Occupancy relative to the best class at each place, within [0, 1].
    occupancy : ndarray
        Within [0, 1].
    uncertainty : ndarray
        Standard error of the occupancy of a part at each place.
    """

    relative: Array
    occupancy: Array
    uncertainty: Array

    __repr__ = short_repr

    def __post_init__(self) -> None:
        freeze(self)


@dataclass(frozen=True, eq=False)
class SetEstimate(OnGrid):
    """What a set of maps shows. Arrays are (z, y, x) on a box around the content of the working grid.

    Attributes
    ----------
    grid : Volume
        Any map of the set: the grid results are written on.
    names : tuple of str
        The classes, in order.
    weights : ndarray of float64
        Their shares, with a sum of 1.
    scaled : ScaledMaps
        How the maps were brought together.
    ratios : Storage
        K arrays (z, y, x): local amplitude of each class relative to the weighted mean, not shrunk.
    reading : ndarray
        Local scale of the mean map, noise taken off.
    best : ndarray
        Highest shrunk ratio of any class …
    best_without_leakage : ndarray
        … without leakage from neighbours.
    keep : ndarray
        Weight of the differences, 0 to 1: what is left of them after shrinkage.
    scatter : ndarray
        Mean square of standardised differences.
    null : Null
        Scatter where classes agree.
    full : FullLevel
        What full material reads.
    content : ndarray of bool
        Voxels inside the particle, in any class.
    notices : tuple of Notice
        What is doubtful.
    unit : float
        Of all values of maps here, in the maps' own: a power of two, 1 unless they are very large or small.
    """

    names: tuple[str, ...]
    weights: Numbers
    scaled: ScaledMaps
    ratios: Storage
    reading: Array
    best: Array
    best_without_leakage: Array
    keep: Array
    scatter: Array
    null: Null
    full: FullLevel
    content: npt.NDArray[np.bool_]
    notices: tuple[Notice, ...]
    unit: float = 1.0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        freeze(self, self.scaled)

    @cached_property
    def power(self) -> Array:
        """Local power of the mean map."""
        return power_of_mean(self.scaled)

    @cached_property
    def around(self) -> Neighbourhood:
        """What density of neighbours reaches each voxel."""
        return Neighbourhood.of(self.power, self.scaled.voxels(tuning.SET.leakage_reach), scipy_smoothed)

    @cached_property
    def _of_best(self) -> tuple[Array, Array]:
        """Occupancy of the best class at each place, and its error."""
        reading = self.reading * self.best / np.float32(self.full.value)
        t, spread = tuning.SET, self.full.spread
        chance = chance_of_full(reading, spread, t.full_prior - t.prior_of_change * self.keep)
        error = posterior_error(reading, chance, spread * np.clip(reading, 0, 1))
        return posterior_mean(reading, chance).astype(np.float32), error.astype(np.float32)

    def of_class(self, k: int) -> ClassEstimate:
        """Return what class ``k`` shows."""
        ratio = _shrunk_ratio(self.ratios[k], self.around, self.keep)
        share: Array = np.clip(ratio / np.maximum(self.best_without_leakage, np.float32(1e-6)), 0, 1)
        top, spread = self._of_best
        noise = np.sqrt(self.null.level * self.ratio_variance(k) * np.maximum(self.keep, 0.1)) / np.maximum(
            self.best, 1e-6
        )
        variance = tuning.SET.error_scale**2 * ((spread * share) ** 2 + (top * noise) ** 2)
        # What leaks in is the less certain, the more the neighbours differ among each other.
        variance += (tuning.SET.leakage_error * top * self.around.spread(share)) ** 2
        error = np.minimum(np.sqrt(variance), 0.5).astype(np.float32)
        return ClassEstimate(share, top * share, error)

    def ratio_variance(self, k: int) -> Array:
        """Return the variance that noise alone would give the ratio of class ``k``."""
        return ratio_variance(self.scaled, self.power, self.ratios[k], k)

    def on_grid(self, array: Array) -> LazyMap:
        """Return an array of the content box as a map on the grid of the input, 0 outside the box."""
        return self.scaled.on_grid(array, self.grid)

    def maps_of_class(self, k: int) -> dict[str, LazyMap]:
        """Return ``relative``, ``occupancy`` and ``uncertainty`` of class ``k`` on the grid of the input.

        What the class shows is worked out once, when the first of them is wanted.
        """
        found = cache(lambda: self.of_class(k))

        def lazy(what: str) -> LazyMap:
            return LazyMap.on(self.grid, whole=lambda: self.on_grid(getattr(found(), what)).data)

        return {what: lazy(what) for what in ("relative", "occupancy", "uncertainty")}


def estimate_set(
    members: Sequence[Member],
    *,
    lowpass: float | None = None,
    room: MakeStorage | None = None,
    pool: Executor | None = None,
    progress: Progress | None = None,
) -> SetEstimate:
    """Estimate the occupancy of every part in every class of one experiment.

    Parameters
    ----------
    members : sequence of Member
        At least two maps on one grid, aligned with each other. Empty ones are left out, with a notice.
    lowpass : float, optional
        Å: common resolution. By default that of the least resolved class, and 8 Å at the finest.
    room : callable, optional
        ``room(count, shape)`` makes storage for arrays of all maps; in memory by default. Up to two are
        held at a time.
    pool : Executor, optional
        Runs what is done to each map; one thread by default. The answer does not depend on it.
    progress : callable, optional
        ``progress(stage, done, total)``.

    Returns
    -------
    SetEstimate

    Raises
    ------
    InputError
        Where fewer than two maps hold anything, or grids differ.

    Notes
    -----
    docs/explanation/sets.md explains the method, its assumptions and what was measured.
    """
    execution = Execution(pool or LocalExecutor(), room or MemoryStorage, progress or (lambda *_: None))
    return compare_members(members, execution, lowpass)


def compare_members(members: Sequence[Member], execution: Execution, lowpass: float | None) -> SetEstimate:
    """Estimate a set with what is given to work on it; see `estimate_set`."""
    grid, stack, notices = read_members(members, execution, lowpass)
    kept = [members[i] for i in stack.kept]
    weights = shares_of([member.weight for member in kept])
    scaled = scale_maps(
        stack, weights, [member.ssnr for member in kept], lowpass=lowpass, execution=execution
    )
    ratios, highest = compare(scaled, weights, execution)
    if any(member.ssnr is None for member in kept):
        # Nobody said how these maps were scaled and filtered: what they share tells.
        scaled = scaled.matched_within(weights, conserved_region(scaled, ratios, execution), execution)
        ratios.clear()
        ratios, highest = compare(scaled, weights, execution)
    scatter = scatter_of(scaled, ratios, execution)
    reading = _reading(scaled, execution.executor.threads)
    # Of the mean map's content: in most of it the classes of most particles agree, so chance shows.
    null = Null.of(scatter[content_of(reading, scaled.total)])
    keep = shrinkage_weight(scatter, null)
    best = 1 + (highest - 1) * keep
    best_without_leakage = _best_without_leakage(scaled, ratios, keep, execution)
    top = reading * best
    content = content_of(top, scaled.total * best)
    if not content.any():
        raise InputError("no content found that these maps share: are they aligned, and of one particle?")
    return SetEstimate(
        grid,
        tuple(member.name for member in kept),
        weights,
        scaled,
        ratios,
        reading,
        best,
        best_without_leakage,
        keep,
        scatter,
        null,
        FullLevel.of(top[content]),
        content,
        (*notices, *scaled.notices),
        stack.unit,
    )


def _reading(scaled: ScaledMaps, threads: int) -> Array:
    """Return the local maximum of the mean map, without what noise adds."""
    z, y, x = (max(n, 1.0) for n in scaled.voxels(tuning.SHARED.radius))
    widths = ball_widths((z, y, x), (box_of_ball(z), box_of_ball(y), box_of_ball(x)))
    high = dilate(scaled.total, widths, threads=threads)
    # Over solvent the local maximum is that of noise alone.
    floor = float(np.median(high[scaled.solvent])) if scaled.solvent.any() else 0.0
    return np.asarray(without_noise(high, max(floor, 0.0), tuning.SHARED.noise_power), dtype=np.float32)


def _shrunk_ratio(ratios: Array, around: Neighbourhood, keep: Array) -> Array:
    return np.asarray(1 + (without_leakage(ratios, around) - 1) * keep, dtype=np.float32)


def _best_without_leakage(scaled: ScaledMaps, ratios: Storage, keep: Array, execution: Execution) -> Array:
    """Return the highest shrunk ratio of any class, without leakage."""
    around = Neighbourhood.of(power_of_mean(scaled), scaled.voxels(tuning.SET.leakage_reach), scipy_smoothed)
    (best,), _ = execution.folded("leakage", _leakage_one, (ratios, around, keep), len(ratios), np.maximum)
    return np.asarray(best, dtype=np.float32)


def _leakage_one(shared: tuple[Storage, Neighbourhood, Array], k: int) -> tuple[tuple[Array, ...], None]:
    ratios, around, keep = shared
    return (_shrunk_ratio(ratios[k], around, keep),), None
