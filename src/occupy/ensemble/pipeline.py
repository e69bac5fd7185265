"""From the maps of one experiment to the occupancy of every part in every class.

The way of the data: maps → common working grid → common ground (gains per shell, one low-pass) → ratios of
each class to the mean → differences that are more than noise → level of the mean → occupancy per class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from occupy import tuning
from occupy.ensemble.evidence import Null, null_of, shrinkage_weight
from occupy.ensemble.factor import products, relative_amplitudes, smoothed
from occupy.ensemble.ground import Ground, Stack, common_ground, matched_within, working_copy, working_grid
from occupy.ensemble.level import FullLevel, content_of, full_level
from occupy.ensemble.passes import LocalPool, Means, MemoryShelf, Pool, Progress, Room, Shelf
from occupy.errors import InputError, Notice
from occupy.numerics.morphology import ball_widths, dilate
from occupy.numerics.parallel import ordinary_unit
from occupy.statistics.leakage import Neighbourhood, without_leakage
from occupy.statistics.noise import without_noise
from occupy.statistics.posterior import chance_of_full, posterior_error, posterior_mean
from occupy.volume import LazyMap, Volume

Array = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]

SPAN = 1 << 22
"""Numbers (of all maps) that are held at a time to be compared with each other …"""

IN_CACHE = 1 << 15
"""… and in each step of that."""


@dataclass(frozen=True)
class Member:
    """One map of a set: its name, how to read it, and what is known of it.

    Attributes
    ----------
    name : str
    read : callable
        Returns the map; called once.
    weight : float or None
        Share of all particles.
    ssnr : sequence of float or None
        Spectral signal-to-noise ratio per shell, where the map was shrunk by it.
    """

    name: str
    read: Callable[[], Volume]
    weight: float | None = None
    ssnr: Sequence[float] | None = None


def _freeze(*arrays: npt.NDArray[np.generic]) -> None:
    for array in arrays:
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

    def __post_init__(self) -> None:
        _freeze(self.relative, self.occupancy, self.uncertainty)


@dataclass(frozen=True, eq=False)
class _OnGrid:
    """What belongs to a grid; it is sent to other processes without the values of the grid's map."""

    grid: Volume

    def __getstate__(self) -> dict[str, Any]:
        blank = (self.grid.shape, self.grid.voxel_size, self.grid.frame, self.grid.name)
        return self.__dict__ | {"grid": blank}

    def __setstate__(self, state: dict[str, Any]) -> None:
        shape, *rest = state["grid"]
        self.__dict__.update(state, grid=Volume(np.zeros(shape, dtype=np.float32), *rest))


@dataclass(frozen=True, eq=False)
class SetEstimate(_OnGrid):
    """What a set of maps shows. Arrays are (z, y, x) on a box around the content of the working grid.

    Attributes
    ----------
    grid : Volume
        Any map of the set: the grid results are written on.
    names : tuple of str
        The classes, in order.
    weights : ndarray of float64
        Their shares, with a sum of 1.
    ground : Ground
        How the maps were brought together.
    ratios : Shelf
        K arrays (z, y, x): local amplitude of each class relative to the weighted mean, not shrunk.
    reading : ndarray
        Local scale of the mean map, in map units, noise taken off.
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
    """

    names: tuple[str, ...]
    weights: Numbers
    ground: Ground
    ratios: Shelf
    reading: Array
    best: Array
    best_without_leakage: Array
    keep: Array
    scatter: Array
    null: Null
    full: FullLevel
    content: npt.NDArray[np.bool_]
    notices: tuple[Notice, ...]

    def __post_init__(self) -> None:
        _freeze(
            self.weights,
            self.reading,
            self.best,
            self.best_without_leakage,
            self.keep,
            self.scatter,
            self.content,
        )
        ground = self.ground
        _freeze(ground.total, ground.noise, ground.solvent, ground.resolutions, ground.gains)

    @cached_property
    def power(self) -> Array:
        """Local power of the mean map."""
        return _power(self.ground)

    @cached_property
    def around(self) -> Neighbourhood:
        """What density of neighbours reaches each voxel."""
        return Neighbourhood.of(self.power, self.ground.voxels(tuning.SET.leakage_reach), smoothed)

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
        variance += (tuning.SET.leakage_error * top * self.around.spread(share)) ** 2
        error = np.minimum(np.sqrt(variance), 0.5).astype(np.float32)
        return ClassEstimate(share, top * share, error)

    def ratio_variance(self, k: int) -> Array:
        """Return the variance that noise alone would give the ratio of class ``k``."""
        return _ratio_variance(self.ground, self.power, self.ratios[k], k)

    def on_grid(self, array: Array) -> LazyMap:
        """Return an array of the content box as a map on the grid of the input, 0 outside the box."""
        return self.ground.on_grid(array, self.grid)

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
    room: Room | None = None,
    pool: Pool | None = None,
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
        Makes shelves for arrays of all maps; in memory by default. Up to two are held at a time.
    pool : Pool, optional
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
    means = Means(pool or LocalPool(), room or MemoryShelf, progress or (lambda *_: None))
    grid, stack, notices = _read_all(members, means, lowpass)
    kept = [members[i] for i in stack.kept]
    weights = _weights([member.weight for member in kept])
    ground = common_ground(stack, weights, [member.ssnr for member in kept], lowpass=lowpass, means=means)
    ratios, highest = _compare(ground, weights, means)
    if any(member.ssnr is None for member in kept):
        # Nobody said how these maps were scaled and filtered: what they share tells.
        ground = matched_within(ground, weights, _conserved(ground, ratios, means), means)
        ratios.clear()
        ratios, highest = _compare(ground, weights, means)
    scatter = _scatter(ground, ratios, means)
    reading = _reading(ground, means.pool.threads)
    null = null_of(scatter[content_of(reading, ground.total)])
    keep = shrinkage_weight(scatter, null)
    best = 1 + (highest - 1) * keep
    best_without_leakage = _best_without_leakage(ground, ratios, keep, means)
    top = reading * best
    content = content_of(top, ground.total * best)
    if not content.any():
        raise InputError("no content found that these maps share: are they aligned, and of one particle?")
    return SetEstimate(
        grid,
        tuple(member.name for member in kept),
        weights,
        ground,
        ratios,
        reading,
        best,
        best_without_leakage,
        keep,
        scatter,
        null,
        full_level(top[content]),
        content,
        (*notices, *ground.notices),
    )


def _compare(ground: Ground, weights: Numbers, means: Means) -> tuple[Shelf, Array]:
    """Return each class's local amplitude relative to the mean, and the highest of any class."""
    count, shape = len(ground.maps), ground.maps.shape
    shared = means.room(count, shape)
    top = max(means.each("comparing", _products_one, (ground, weights, shared), count))
    ratios = means.room(count, shape)
    size = int(np.prod(shape))
    span = max(1, min(size, SPAN // count))
    solving = (shared, ratios, weights, top, span)
    highest = list(means.each("solving", _amplitudes_of_span, solving, -(-size // span)))
    shared.clear()
    return ratios, np.concatenate(highest).reshape(shape)


def _products_one(shared: tuple[Ground, Numbers, Shelf], k: int) -> float:
    ground, weights, out = shared
    one = np.empty((1, *ground.maps.shape), dtype=np.float32)
    sigma = ground.voxels(tuning.SET.product_window)
    products(ground.maps[k][None], ground.total, weights[k : k + 1], ground.noise[k : k + 1], sigma, one)
    out[k] = one[0]
    return float(one.max())


def _amplitudes_of_span(shared: tuple[Any, ...], i: int) -> Array:
    """Solve for the amplitudes of all classes in a stretch of voxels; return the highest at each voxel."""
    shelf, out, weights, top, span = shared
    size = int(np.prod(shelf.shape))
    values = shelf.span(i * span, min((i + 1) * span, size))
    step = max(1, IN_CACHE // len(values))
    for start in range(0, values.shape[1], step):
        relative_amplitudes(values[:, None, None, start : start + step], weights, top)
    out.put_span(i * span, values)
    highest: Array = values.max(axis=0)
    return highest


def _conserved(ground: Ground, ratios: Shelf, means: Means) -> Array:
    """Return a soft mask of what all classes share.

    A class's commonest ratio is its grey scale; where all classes are near theirs, nothing differs.
    """
    power = _power(ground)
    content = power > tuning.SET.conserved_power * float(np.quantile(power, 0.995))
    (distance,), _ = means.folded("matching", _distance_one, (ratios, content), len(ratios), np.maximum)
    near = content & (distance < max(tuning.SET.conserved, float(np.quantile(distance[content], 0.1))))
    return smoothed(near, ground.voxels(tuning.SET.product_window))


def _distance_one(shared: tuple[Shelf, npt.NDArray[np.bool_]], k: int) -> tuple[tuple[Array, ...], None]:
    ratios, content = shared
    logs = np.log(np.maximum(ratios[k], 1e-3))
    return (np.abs(logs - _commonest(logs[content])),), None


def _commonest(logs: Array) -> float:
    """Return the position of the highest peak of a histogram."""
    counts, edges = np.histogram(logs, bins=200, range=(-3, 3))
    smooth = gaussian_filter1d(counts.astype(np.float64), 2)
    return float(edges[int(np.argmax(smooth))] + 0.015)


def _read_all(
    members: Sequence[Member], means: Means, lowpass: float | None
) -> tuple[Volume, Stack, list[Notice]]:
    """Read every map once, onto the working grid; leave out the empty ones."""
    if not members:
        raise InputError("0 of 0 maps hold anything; a set needs at least two")
    grid = members[0].read()
    shape, voxel = working_grid(grid, lowpass)
    shelf = means.room(len(members), shape)
    first = _keep_one(grid, members[0].name, shelf, 0)
    reading = _Reading(grid, tuple(members), shelf)
    rest = means.each("reading", _read_one, reading, len(members) - 1)
    spans = [first, *rest]
    kept = tuple(i for i, span in enumerate(spans) if span > 0)
    if len(kept) < 2:
        raise InputError(f"{len(kept)} of {len(members)} maps hold anything; a set needs at least two")
    _check_span(max(spans))
    empty = [member.name for i, member in enumerate(members) if i not in kept]
    notices = [Notice("empty-class", f"left out, as nothing is in it: {name}") for name in empty]
    return grid, Stack(shelf, voxel, kept), notices


@dataclass(frozen=True, eq=False)
class _Reading(_OnGrid):
    """What reading a map needs: a map on the grid they must be on, all of them, and where to."""

    members: tuple[Member, ...]
    shelf: Shelf


def _read_one(shared: _Reading, i: int) -> float:
    """Read the map after map ``i``; return the span of its values."""
    member = shared.members[i + 1]
    volume = member.read()
    _check_grid(volume, shared.grid, member.name, shared.members[0].name)
    return _keep_one(volume, member.name, shared.shelf, i + 1)


def _keep_one(volume: Volume, name: str, shelf: Shelf, k: int) -> float:
    span = float(np.ptp(volume.data))
    # Small ones may be all that an empty class holds: the largest of all maps decides there.
    _check_span(max(span, 1.0))
    data = working_copy(volume, shelf.shape)
    if not np.isfinite(data).all():
        raise InputError(f"{name} holds values that are not numbers")
    shelf[k] = data
    return span


def _check_span(span: float) -> None:
    if ordinary_unit(span) != 1:
        raise InputError(
            f"the values of these maps span {span:.2g}, which 32-bit numbers can't be compared in; "
            f"multiply all of them by about {1 / span:.0e} first"
        )


def _check_grid(volume: Volume, grid: Volume, name: str, first: str) -> None:
    if not volume.same_grid(grid):
        raise InputError(
            f"{name} is {_box(volume)}, {first} is {_box(grid)}: resample one of them (--resample does)"
        )


def _box(volume: Volume) -> str:
    size = " × ".join(str(n) for n in volume.shape[::-1])
    return f"{size} voxels of {volume.voxel_size[0]:.4g} Å"


def _weights(given: Sequence[float | None]) -> Numbers:
    """Return shares with a sum of 1; equal ones where any is unknown or all are zero."""
    known = [w for w in given if w is not None and w >= 0]
    if len(known) < len(given) or sum(known) <= 0:
        return np.full(len(given), 1 / len(given))
    w = np.maximum(np.array(known, dtype=np.float64), 1e-3 * max(known))
    return np.asarray(w / w.sum())


def _reading(ground: Ground, threads: int) -> Array:
    """Return the local maximum of the mean map, without what noise adds."""
    radius = tuple(max(n, 1.0) for n in ground.voxels(tuning.SHARED.radius))
    size = tuple(2 * int(np.floor(r)) + 1 for r in radius)
    high = dilate(
        ground.total,
        ball_widths((radius[0], radius[1], radius[2]), (size[0], size[1], size[2])),
        threads=threads,
    )
    floor = float(np.median(high[ground.solvent])) if ground.solvent.any() else 0.0
    return np.asarray(without_noise(high, max(floor, 0.0), tuning.SHARED.noise_power), dtype=np.float32)


def _shrunk_ratio(ratios: Array, around: Neighbourhood, keep: Array) -> Array:
    return np.asarray(1 + (without_leakage(ratios, around) - 1) * keep, dtype=np.float32)


def _best_without_leakage(ground: Ground, ratios: Shelf, keep: Array, means: Means) -> Array:
    """Return the highest shrunk ratio of any class, without leakage."""
    around = Neighbourhood.of(_power(ground), ground.voxels(tuning.SET.leakage_reach), smoothed)
    (best,), _ = means.folded("leakage", _leakage_one, (ratios, around, keep), len(ratios), np.maximum)
    return np.asarray(best, dtype=np.float32)


def _leakage_one(shared: tuple[Shelf, Neighbourhood, Array], k: int) -> tuple[tuple[Array, ...], None]:
    ratios, around, keep = shared
    return (_shrunk_ratio(ratios[k], around, keep),), None


def _power(ground: Ground) -> Array:
    return smoothed(ground.total**2, ground.voxels(tuning.SET.product_window))


def _ratio_variance(ground: Ground, power: Array, ratio: Array, k: int) -> Array:
    misfit = smoothed((ground.maps[k] - ratio * ground.total) ** 2, ground.voxels(tuning.SET.residual_window))
    independent = max(1.0, (4 * np.pi) ** 1.5 * (tuning.SET.product_window / (ground.resolution / 2)) ** 3)
    floor = 1e-6 * float(power.max())
    return np.asarray(misfit / np.maximum(power, floor) / independent, dtype=np.float32)


def _scatter(ground: Ground, ratios: Shelf, means: Means) -> Array:
    """Return the mean square of standardised differences from the mean, pooled over a neighbourhood."""
    power = _power(ground)
    (total,), _ = means.folded("scatter", _scatter_one, (ground, power, ratios), len(ratios))
    total /= len(ratios) - 1
    sigma = ground.voxels(tuning.SET.evidence_window)
    weight = np.maximum(smoothed(power, sigma), 1e-6 * float(power.max()))
    return np.asarray(smoothed(total * power, sigma) / weight, dtype=np.float32)


def _scatter_one(shared: tuple[Ground, Array, Shelf], k: int) -> tuple[tuple[Array, ...], None]:
    ground, power, ratios = shared
    ratio = ratios[k]
    expected = np.maximum(_ratio_variance(ground, power, ratio, k), 1e-6)
    return (np.asarray((ratio - 1) ** 2 / expected, dtype=np.float32),), None
