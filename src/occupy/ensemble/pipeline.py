"""From the maps of one experiment to the occupancy of every part in every class.

The way of the data: maps → common working grid → common ground (gains per shell, one low-pass) → ratios of
each class to the mean → differences that are more than noise → level of the mean → occupancy per class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from occupy.ensemble.evidence import Null, believed, null_of
from occupy.ensemble.factor import products, relative_amplitudes, smoothed
from occupy.ensemble.ground import Ground, Stack, common_ground, matched_within, working_copy, working_grid
from occupy.ensemble.level import FullLevel, content_of, full_level, pulled
from occupy.errors import InputError, Notice
from occupy.numerics.morphology import ball_widths, dilate
from occupy.numerics.parallel import available_cores
from occupy.volume import Volume

Array = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]

WINDOW = 3.0
"""Å: standard deviation of the neighbourhood in which products are averaged."""

EVIDENCE_WINDOW = 4.0
"""Å: over which the evidence for a difference is pooled."""

RESIDUAL_WINDOW = 8.0
"""Å: over which the misfit of a class is averaged."""

ERROR_SCALE = 0.95
"""Factor of standard errors, calibrated on simulated sets of other particles (docs/explanation/sets.md)."""

CONSERVED = 0.15
"""Places where no class's ratio is farther (in logarithms) from its commonest are taken as conserved."""

CONSERVED_POWER = 0.05
"""… and where the mean map has this share of its highest local power."""

RADIUS = 5.6
"""Å: radius of the neighbourhood whose maximum is the local scale."""


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


class Allocate(Protocol):
    """Makes room for an array of float32 that may be larger than memory."""

    def __call__(self, shape: tuple[int, ...]) -> Array:
        """Return an array of this shape."""


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
class SetEstimate:
    """What a set of maps shows. Arrays are (z, y, x) on a box around the content of the working grid.

    Attributes
    ----------
    names : tuple of str
        The classes, in order.
    weights : ndarray of float64
        Their shares, with a sum of 1.
    grid : Volume
        Any map of the set: the grid results are written on.
    ground : Ground
        How the maps were brought together.
    ratios : ndarray, shape (K, z, y, x)
        Local amplitude of each class relative to the weighted mean, not shrunk.
    reading : ndarray
        Local scale of the mean map, in map units, noise taken off.
    best : ndarray
        Highest believed ratio of any class.
    keep : ndarray
        Share of the differences that is believed.
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
    grid: Volume
    ground: Ground
    ratios: Array
    reading: Array
    best: Array
    keep: Array
    scatter: Array
    null: Null
    full: FullLevel
    content: npt.NDArray[np.bool_]
    notices: tuple[Notice, ...]

    def __post_init__(self) -> None:
        _freeze(self.weights, self.ratios, self.reading, self.best, self.keep, self.scatter, self.content)
        # Bringing maps together works in place, to hold them once only; now that is done.
        ground = self.ground
        _freeze(ground.maps, ground.total, ground.noise, ground.solvent, ground.resolutions, ground.gains)

    def of_class(self, k: int) -> ClassEstimate:
        """Return what class ``k`` shows."""
        ratio = 1 + (self.ratios[k] - 1) * self.keep
        share = np.clip(ratio / np.maximum(self.best, 1e-6), 0, 1)
        top, spread = pulled(self.reading * self.best / np.float32(self.full.value), self.full.spread)
        noise = np.sqrt(self.null.level * self.ratio_variance(k) * np.maximum(self.keep, 0.1)) / np.maximum(
            self.best, 1e-6
        )
        error = ERROR_SCALE * np.sqrt((spread * share) ** 2 + (top * noise) ** 2)
        return ClassEstimate(share, top * share, np.minimum(error, 0.5).astype(np.float32))

    def ratio_variance(self, k: int) -> Array:
        """Return the variance that noise alone would give the ratio of class ``k``."""
        return _ratio_variance(self.ground, self.ratios[k], k)

    def on_grid(self, array: Array) -> Iterator[tuple[int, Array]]:
        """Yield slabs (first plane, values) of an array on the grid of the input, 0 outside the content box.

        Planes and axes are those of the file.
        """
        yield from self.ground.on_grid(array, self.grid)


def estimate_set(
    members: Sequence[Member],
    *,
    lowpass: float | None = None,
    allocate: Allocate | None = None,
    progress: Progress | None = None,
) -> SetEstimate:
    """Estimate the occupancy of every part in every class of one experiment.

    Parameters
    ----------
    members : sequence of Member
        At least two maps on one grid, aligned with each other. Empty ones are left out, with a notice.
    lowpass : float, optional
        Å: common resolution. By default that of the least resolved class, and 8 Å at the finest.
    allocate : callable, optional
        Makes the two arrays that hold all maps; in memory by default.
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
    report = progress or (lambda *_: None)
    room = allocate or (lambda shape: np.empty(shape, dtype=np.float32))
    grid, kept, stack, notices = _read_all(members, room, report)
    weights = _weights([members[i].weight for i in kept])
    ground = common_ground(stack, weights, [members[i].ssnr for i in kept], lowpass=lowpass, report=report)
    names = tuple(members[i].name for i in kept)
    ratios = room((len(kept), *ground.total.shape))
    report("comparing", 0, 0)
    _compare(ground, weights, ratios)
    if any(members[i].ssnr is None for i in kept):
        # Nobody said how these maps were scaled and filtered: what they share tells.
        report("matching grey scales", 0, 0)
        ground = matched_within(ground, weights, _conserved(ground, ratios))
        _compare(ground, weights, ratios)
    scatter = _scatter(ground, ratios)
    reading = _reading(ground)
    null = null_of(scatter[content_of(reading, ground.total)])
    keep = believed(scatter, null)
    best = np.full(reading.shape, -np.inf, dtype=np.float32)
    for k in range(len(kept)):
        np.maximum(best, 1 + (ratios[k] - 1) * keep, out=best)
    top = reading * best
    content = content_of(top, ground.total * best)
    if not content.any():
        raise InputError("no content found that these maps share: are they aligned, and of one particle?")
    return SetEstimate(
        names,
        weights,
        grid,
        ground,
        ratios,
        reading,
        best,
        keep,
        scatter,
        null,
        full_level(top[content]),
        content,
        (*notices, *ground.notices),
    )


def _compare(ground: Ground, weights: Numbers, ratios: Array) -> None:
    """Fill in each class's local amplitude relative to the mean."""
    products(ground.maps, ground.total, weights, ground.noise, ground.voxels(WINDOW), ratios)
    relative_amplitudes(ratios, weights)


def _conserved(ground: Ground, ratios: Array) -> Array:
    """Return a soft mask of what all classes share.

    A class's commonest ratio is its grey scale; where all classes are near theirs, nothing differs.
    """
    power = smoothed(ground.total**2, ground.voxels(WINDOW))
    content = power > CONSERVED_POWER * float(np.quantile(power, 0.995))
    distance = np.zeros(power.shape, dtype=np.float32)
    for ratio in ratios:
        logs = np.log(np.maximum(ratio, 1e-3))
        np.maximum(distance, np.abs(logs - _commonest(logs[content])), out=distance)
    near = content & (distance < max(CONSERVED, float(np.quantile(distance[content], 0.1))))
    return smoothed(near, ground.voxels(WINDOW))


def _commonest(logs: Array) -> float:
    """Return the position of the highest peak of a histogram."""
    counts, edges = np.histogram(logs, bins=200, range=(-3, 3))
    smooth = gaussian_filter1d(counts.astype(np.float64), 2)
    return float(edges[int(np.argmax(smooth))] + 0.015)


def _read_all(
    members: Sequence[Member], room: Allocate, report: Progress
) -> tuple[Volume, list[int], Stack, list[Notice]]:
    """Read every map once, onto the working grid; leave out the empty ones."""
    grid: Volume | None = None
    kept: list[int] = []
    empty = []
    shape, voxel = (0, 0, 0), (0.0, 0.0, 0.0)
    stack: Array = np.empty((0, 0, 0, 0), dtype=np.float32)
    for i, member in enumerate(members):
        report(f"reading {member.name}", i, len(members))
        volume = member.read()
        if grid is None:
            grid = volume
            shape, voxel = working_grid(grid)
            stack = room((len(members), *shape))
        _check_grid(volume, grid, member.name, members[0].name)
        data = working_copy(volume, shape)
        if not np.isfinite(data).all():
            raise InputError(f"{member.name} holds values that are not numbers")
        if float(np.ptp(data)) == 0:
            empty.append(member.name)
            continue
        stack[len(kept)] = data
        kept.append(i)
    if grid is None or len(kept) < 2:
        raise InputError(f"{len(kept)} of {len(members)} maps hold anything; a set needs at least two")
    notices = [Notice("empty-class", f"left out, as nothing is in it: {name}") for name in empty]
    return grid, kept, Stack(stack[: len(kept)], voxel), notices


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


def _reading(ground: Ground) -> Array:
    """Return the local maximum of the mean map, with what noise alone would read taken off in quadrature."""
    radius = tuple(max(n, 1.0) for n in ground.voxels(RADIUS))
    size = tuple(2 * int(np.floor(r)) + 1 for r in radius)
    high = dilate(
        ground.total,
        ball_widths((radius[0], radius[1], radius[2]), (size[0], size[1], size[2])),
        threads=available_cores(),
    )
    floor = float(np.median(high[ground.solvent])) if ground.solvent.any() else 0.0
    return np.asarray(np.sqrt(np.maximum(high * np.abs(high) - floor**2, 0)), dtype=np.float32)


def _ratio_variance(ground: Ground, ratio: Array, k: int) -> Array:
    misfit = smoothed((ground.maps[k] - ratio * ground.total) ** 2, ground.voxels(RESIDUAL_WINDOW))
    power = smoothed(ground.total**2, ground.voxels(WINDOW))
    independent = max(1.0, (4 * np.pi) ** 1.5 * (WINDOW / (ground.resolution / 2)) ** 3)
    floor = 1e-6 * float(power.max())
    return np.asarray(misfit / np.maximum(power, floor) / independent, dtype=np.float32)


def _scatter(ground: Ground, ratios: Array) -> Array:
    """Return the mean square of standardised differences from the mean, pooled over a neighbourhood."""
    total = np.zeros(ground.total.shape, dtype=np.float32)
    for k in range(len(ratios)):
        total += (ratios[k] - 1) ** 2 / np.maximum(_ratio_variance(ground, ratios[k], k), 1e-6)
    total /= len(ratios) - 1
    sigma = ground.voxels(EVIDENCE_WINDOW)
    power = smoothed(ground.total**2, ground.voxels(WINDOW))
    weight = np.maximum(smoothed(power, sigma), 1e-6 * float(power.max()))
    return np.asarray(smoothed(total * power, sigma) / weight, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Summary:
    """What the whole set shows, on the content box of the working grid.

    Attributes
    ----------
    composite : ndarray
        What all classes share, at each place as strong as in the best class; map units.
    mean_occupancy : ndarray
        Occupancy averaged over the particles of all classes.
    variability : ndarray
        Standard deviation of the occupancy over the particles of all classes, where the classes differ by
        more than noise, otherwise 0.
    """

    composite: Array
    mean_occupancy: Array
    variability: Array

    def __post_init__(self) -> None:
        _freeze(self.composite, self.mean_occupancy, self.variability)


def summarise_set(est: SetEstimate, differing: npt.NDArray[np.bool_]) -> Summary:
    """Sum up a set.

    Parameters
    ----------
    est : SetEstimate
    differing : ndarray of bool
        Where classes differ by more than noise, from `occupy.ensemble.components.varying`.
    """
    shape = est.reading.shape
    pattern, norm = np.zeros(shape, dtype=np.float32), np.full(shape, 1e-6, dtype=np.float32)
    mean, square = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for k, w in enumerate(est.weights.astype(np.float32)):
        # Least squares for the shared pattern P in m_k = r_k P.
        ratio = 1 + (est.ratios[k] - 1) * est.keep
        pattern += w * ratio * est.ground.maps[k]
        norm += w * ratio**2
        occupancy = est.of_class(k).occupancy
        mean += w * occupancy
        square += w * occupancy**2
    spread = np.sqrt(np.maximum(square - mean**2, 0)) * differing
    return Summary(est.best * pattern / norm, mean, spread)
