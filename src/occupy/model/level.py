"""What full is among fitted parts, and what each part's occupancy is then, with its interval.

Nothing can be above full. The relative occupancies are a mixture: some parts are full, the others lie
anywhere between absent and full, at least one being full; each has the fit's error and, on top, an error of
the model, which is larger for smaller parts. Level, that error and the share of full parts are integrated
over a grid, so few parts or no clear level make wide intervals. That parts are likely to be full draws their
values to 1; errors and intervals are those from before.

How far a model is from its map beyond noise shows in how unevenly the pieces of each part are there. All
pieces of a part have one occupancy. If the fitted model were right, each would explain too much or too
little of the map by chance only. Flexible or wrong pieces, other ice or other scattering make them differ by
more, and what pieces differ by, whole parts differ by too, less by the root of their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates
from scipy.stats import norm

from occupy.model.density import ATOM_VOLUME, ATOM_VOLUME_B, SAMPLING_B, Indices, Lattice, Numbers, on_grid
from occupy.model.solve import ICE, Solution

USUAL_SIZE = 2000
"""Atoms. Errors of flexible or wrongly built pieces average out over larger parts, as one over the root of
the size: chains of 725 atoms at the rim of GroEL erred by .06 where those of 3840 erred by .015."""
_PIECE = 200
"""Atoms of a piece. On tuning maps pieces of the fitted forward model scatter as noise does, to .005 of
full for a part of usual size; those of the other one by .012 to .025 more."""
_ATOM, _ATOM_B = 2.4, 25.0
"""Scattering at 0 and fall-off in Å² of a mean heavy atom, for the weight of detail only."""


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Parts cut into pieces: where each piece's atoms begin among all atoms in order, and whose it is."""

    atoms: Indices
    starts: Indices
    owner: Indices

    def sums(self, per_atom: Numbers) -> Numbers:
        """Return the sum of every piece."""
        return np.asarray(np.add.reduceat(per_atom[self.atoms], self.starts))


def _cut(groups: Sequence[Indices]) -> _Pieces:
    """Cut each part into at least two pieces of neighbours in the file."""
    pieces = [np.array_split(group, max(2, round(len(group) / _PIECE))) for group in groups if len(group) > 1]
    lengths = [len(piece) for part in pieces for piece in part]
    owner = np.repeat(np.arange(len(pieces)), [len(part) for part in pieces])
    atoms = np.concatenate([piece for part in pieces for piece in part])
    return _Pieces(atoms, np.cumsum([0, *lengths[:-1]]), owner)


def _scatter(lacking: Numbers, weight: Numbers, owner: Indices) -> float:
    """Return the variance of what pieces lack around their part's mean, weighted by what the map knows."""
    count = np.bincount(owner)
    total = np.bincount(owner, weight)
    off = lacking / weight - (np.bincount(owner, lacking) / total)[owner]
    # The mean of a part is found from its own pieces.
    freedom = (count / np.maximum(count - 1, 1))[owner]
    return float((weight * off**2 * freedom).sum() / weight.sum())


def model_error(
    residual: npt.NDArray[np.complex64],
    whole: npt.NDArray[np.complex64],
    lattice: Lattice,
    solution: Solution,
    points: Numbers,
    groups: Sequence[Indices],
) -> float:
    """Return the standard deviation of a part of `USUAL_SIZE` by faults of the model.

    In units of the fit's occupancies.

    Parameters
    ----------
    residual, whole : (n,) arrays of complex
        Coefficients of what is left of the map, and the sum of all parts.
    lattice : Lattice
        Of both.
    solution : Solution
        Scale and noise of every shell.
    points : (atoms, 3) array
        x, y, z in Å from the map's first voxel.
    groups : sequence of ndarray of int
        Atoms of each part.

    Notes
    -----
    What a piece lacks is the gradient of the log-likelihood in its occupancy, over that of the whole model.
    What noise does is seen where the residual's phases are drawn anew.
    """
    if not any(len(group) > 1 for group in groups):
        return 0.0
    pieces = _cut(groups)
    curve = lattice.frequency**2 / 4
    blur = SAMPLING_B * lattice.resolution**2
    atom = _ATOM * np.exp(-(blur + _ATOM_B) * curve)
    atom -= ICE * ATOM_VOLUME * np.exp(-(blur + ATOM_VOLUME_B) * curve)
    matched = lattice.spread(solution.scale / solution.noise * atom)
    at = (points[:, ::-1] / np.array(lattice.voxel_size) - np.array(lattice.start)).T

    def of_pieces(coefficients: npt.NDArray[np.complex64]) -> Numbers:
        grid = on_grid(coefficients * matched, lattice)
        return pieces.sums(map_coordinates(grid, at, order=1, mode="nearest").astype(np.float64))

    weight = of_pieces(whole * lattice.spread(solution.scale))
    weight = np.maximum(weight, 1e-3 * np.abs(weight).max() + 1e-300)
    turns = np.random.default_rng(0).random(len(residual), dtype=np.float32)
    noise = residual * np.exp(2j * np.pi * turns).astype(np.complex64)
    found, by_chance = (_scatter(of_pieces(rows), weight, pieces.owner) for rows in (residual, noise))
    return float(np.sqrt(max(found - by_chance, 0.0) * len(pieces.atoms) / len(pieces.starts) / USUAL_SIZE))


Flags = npt.NDArray[np.bool_]

_MODEL_ERRORS = np.geomspace(0.001, 0.16, 16)
"""Standard deviations, relative to full, that the model's faults may cause in a part of `USUAL_SIZE`."""
_MODEL_ERROR_SPREAD = 0.6
"""Prior of these: log-normal around what the pieces of parts say (`model_error`). On the tuning maps errors
over standard errors are then .9 for partial parts of the fitted forward model, and 1.1 to 1.2 for those of
the other one and of RELION's consensus; 1.2 times as large and spreads of .4 and .8 change that by .1."""
_USUAL_MODEL_ERROR = 0.015
"""Where nothing is known of the pieces."""
_FULL_SHARES = np.array([0.1, 0.25, 0.4, 0.55, 0.7, 0.85])
"""Shares of parts that are full."""
_VARIED_FULL, PARTIAL_ERROR_OF_CLASSES = 0.2, 0.025
"""Chance that a part that is not full in all maps of a set is full in one of them. In classes of the 50S
subunit partial parts err by .064 without this, by .057 with 0.3 and .054 with 0.15. And standard deviation on
top for partial parts of a set: classes differ by more than their particles, since noise too decided which
class each went to. The values hardly depend on it."""
_ABSENT_SHARE = 0.08
"""Chance that a part that is not full is absent altogether."""
_LEVELS, _LEVEL_STEP, _LOWEST_LEVEL = 240, 0.0046, 0.45
"""Levels that are tried, relative to the highest part; each so much higher than the one before."""
_NUCLEIC_SPREAD = 0.05
"""How much the full levels of nucleic acid and protein may differ (standard deviation), since hydrogens and
ice weigh differently in them: by .12 at low resolution if the map has hydrogens that the model leaves out."""
_NUCLEIC_STEPS = np.arange(-24, 25, 4)
"""Ratios that are tried, in steps of the levels."""
_STRAY = 1e-3
"""Chance that a part reads anything at all. With 0.01, one full part among a dozen alike, low ones counted as
the stray rather than as full."""
_DRAWS = 64
_POINTS = 501


@dataclass(frozen=True, eq=False)
class Level:
    """Full level and occupancies.

    Attributes
    ----------
    full, error : float
        Relative occupancy that is read as 1, and its standard error.
    fulls : ndarray, shape (parts,)
        The same level of each part: that of nucleic acid may differ.
    model_error : float
        Standard deviation, relative to full, of what is neither noise nor occupancy, in a part of usual size.
    model_errors : ndarray, shape (parts,)
        The same of each part by its size.
    values : ndarray, shape (parts,)
        Posterior median of each part's occupancy: drawn to 1 where it is likely to be full.
    errors, low, high : ndarray, shape (parts,)
        Standard error and 95 % interval, not drawn to anything: noise, model and level.
    chance_full : ndarray, shape (parts,)
        Posterior chance that a part is full.
    share : float
        Of parts that are full.
    """

    full: float
    error: float
    fulls: Numbers
    model_error: float
    model_errors: Numbers
    values: Numbers
    errors: Numbers
    low: Numbers
    high: Numbers
    chance_full: Numbers
    share: float

    @classmethod
    def of(
        cls,
        occupancy: Numbers,
        errors: Numbers,
        use: Flags | None = None,
        sizes: Numbers | None = None,
        partial_error: float = 0.0,
        nucleic: Flags | None = None,
        of_pieces: float | None = None,
        likely_full: Numbers | None = None,
    ) -> Level:
        """Find the full level of relative occupancies and judge each part by it.

        Parameters
        ----------
        occupancy, errors : (parts,) arrays
            From the fit, with standard errors from noise.
        use : (parts,) array of bool, optional
            Parts that may say what full is; all by default.
        sizes : (parts,) array, optional
            Atoms of each part; by default all are of usual size.
        partial_error : float
            Standard deviation on top for parts that are not full.
        nucleic : (parts,) array of bool, optional
            Parts whose full level may differ a little from the others'; none by default.
        of_pieces : float, optional
            Error of the model as its pieces say, in units of the occupancies
            (`occupy.model.level.model_error`).
        likely_full : (parts,) array, optional
            Chance of each part to be full before this map is looked at, see `full_elsewhere`.
        """
        count = len(occupancy)
        chosen = np.ones(count, dtype=bool) if use is None or not use.any() else use
        atoms = np.full(count, USUAL_SIZE) if sizes is None else np.maximum(sizes, 1)
        factors = np.clip(np.sqrt(USUAL_SIZE / atoms), 0.3, 4.0)
        other = np.zeros(count, dtype=bool) if nucleic is None else nucleic
        # One part alone has nothing to be compared with: it is what full is.
        shares = _FULL_SHARES if chosen.sum() > 1 else np.ones(1)
        steps = _NUCLEIC_STEPS if other.any() and not other.all() else np.zeros(1, dtype=np.intp)
        told = _USUAL_MODEL_ERROR if of_pieces is None else of_pieces / float(np.max(occupancy[chosen]))
        usual = max(float(_MODEL_ERRORS[0]), told)
        readings = _Readings(occupancy, errors, factors, other, partial_error, usual)
        levels, weight = _posterior(readings.of(chosen), shares, steps)
        over_levels = weight.sum(axis=(0, 2, 3))
        full = float(over_levels @ levels)
        model_error = float(np.exp(weight.sum(axis=(0, 1, 3)) @ np.log(_MODEL_ERRORS)))
        ratio = float(weight.sum(axis=(1, 2, 3)) @ np.exp(steps * _LEVEL_STEP))
        # Systematic draws from the grid: the same for the same input.
        flat = np.cumsum(weight.reshape(-1))
        at = np.unravel_index(np.searchsorted(flat, (np.arange(_DRAWS) + 0.5) / _DRAWS), weight.shape)
        drawn = levels[at[1]][:, None] * np.where(other, np.exp(steps[at[0]] * _LEVEL_STEP)[:, None], 1.0)
        x, wide = occupancy / drawn, np.hypot(errors / drawn, _MODEL_ERRORS[at[2]][:, None] * factors)
        grid = np.linspace(0.0, 1.0, _POINTS)
        mass, chance = np.zeros((count, _POINTS)), np.zeros(count)
        for read, error, share in zip(x, wide, shares[at[3]].tolist(), strict=True):
            prior = share if likely_full is None else likely_full
            each, is_full = _mass(read, error, prior, grid, partial_error)
            mass, chance = mass + each / _DRAWS, chance + is_full / _DRAWS
        values = grid[(np.cumsum(mass, axis=1) < 0.5).sum(axis=1).clip(max=_POINTS - 1)]
        spread, low, high = _interval(x, np.hypot(wide, partial_error * (1 - chance)), values)
        return cls(
            full=full,
            error=float(np.sqrt(over_levels @ (levels - full) ** 2)),
            fulls=full * np.where(other, ratio, 1.0),
            model_error=model_error,
            model_errors=model_error * factors,
            values=values,
            errors=spread,
            low=low,
            high=high,
            chance_full=chance,
            share=float(weight.sum(axis=(0, 1, 2)) @ shares),
        )


@dataclass(frozen=True, eq=False)
class _Readings:
    """What was read of some parts: relative occupancy, its error from noise, what the model's errors are."""

    occupancy: Numbers
    errors: Numbers
    factors: Numbers
    nucleic: Flags
    partial_error: float
    usual_error: float

    def of(self, chosen: Flags) -> _Readings:
        names = ("occupancy", "errors", "factors", "nucleic")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


def _likelihoods(x: Numbers, error: Numbers, partial_error: float) -> tuple[Numbers, Numbers, Numbers]:
    """Return the density of a reading x (in full) of parts that are full, absent, and anywhere between."""
    full = norm.pdf((x - 1) / error) / error
    wide = np.hypot(error, partial_error)
    absent = norm.pdf(x / wide) / wide
    between = norm.cdf((1 - x) / wide) - norm.cdf(-x / wide)
    return full, absent, between


def _evidence(readings: _Readings, levels: Numbers, shares: Numbers) -> Numbers:
    """Return the log density, whichever parts are full and if none is: (2, levels, model errors, shares)."""
    out = np.zeros((2, len(levels), len(_MODEL_ERRORS), len(shares)))
    x, noise = readings.occupancy / levels[:, None], readings.errors / levels[:, None]
    for row, extra in enumerate(_MODEL_ERRORS):
        error = np.hypot(noise, extra * readings.factors)
        full, absent, between = _likelihoods(x, error, readings.partial_error)
        partial = _ABSENT_SHARE * absent + (1 - _ABSENT_SHARE) * between
        for k, share in enumerate(shares):
            less = (1 - _STRAY) * (1 - share) * partial + _STRAY / 3
            out[0, :, row, k] = np.log(less + (1 - _STRAY) * share * full).sum(axis=1)
            out[1, :, row, k] = np.log(less).sum(axis=1)
    # In units of the level the density of what was read is multiplied by 1/level.
    out -= len(readings.occupancy) * np.log(levels)[:, None, None]
    return out


def _posterior(readings: _Readings, shares: Numbers, steps: npt.NDArray[np.intp]) -> tuple[Numbers, Numbers]:
    """Return levels, and the posterior over (ratio, level, model error, share of full).

    Ratios, of nucleic acid's level to the others', are in steps of the levels. At least one part is full;
    where all are, that is nothing to be given.
    """
    reach = int(np.abs(steps).max())
    top = _LOWEST_LEVEL * float(np.max(readings.occupancy))
    levels = top * np.exp(np.arange(-reach, _LEVELS + reach) * _LEVEL_STEP)
    rest, nucleic = (_evidence(readings.of(readings.nucleic == k), levels, shares) for k in (False, True))
    inner = np.arange(reach, reach + _LEVELS)
    log, none_full = np.stack([rest[:, inner] + nucleic[:, inner + step] for step in steps], axis=1)
    if shares[0] < 1:
        log = log + np.log(np.maximum(-np.expm1(none_full - log), 1e-300))
        log -= np.log(1 - (1 - shares) ** len(readings.occupancy))
    prior = (np.log(_MODEL_ERRORS / readings.usual_error) / _MODEL_ERROR_SPREAD) ** 2
    log = log - 0.5 * prior[:, None] - 0.5 * (steps * _LEVEL_STEP / _NUCLEIC_SPREAD)[:, None, None, None] ** 2
    weight = np.exp(log - log.max())
    return levels[inner], weight / weight.sum()


def _mass(
    x: Numbers, error: Numbers, share: Numbers | float, grid: Numbers, partial_error: float
) -> tuple[Numbers, Numbers]:
    """Return the posterior of each part's occupancy on a grid from 0 to 1, and its chance to be full."""
    full, absent, between = _likelihoods(x, error, partial_error)
    full, absent = share * full, (1 - share) * _ABSENT_SHARE * absent
    wide = np.hypot(error, partial_error)[:, None]
    mass = norm.pdf((grid - x[:, None]) / wide)
    strength = (1 - share) * (1 - _ABSENT_SHARE) * between / np.maximum(mass.sum(axis=1), 1e-300)
    mass *= strength[:, None]
    mass[:, -1] += full
    mass[:, 0] += absent
    total = np.maximum(mass.sum(axis=1), 1e-300)
    return mass / total[:, None], full / total


def _interval(x: Numbers, error: Numbers, values: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return the standard error and 95 % interval of draws of readings and errors (draws, parts).

    Readings above full and below absent are taken to these before, so that the interval of a full part
    reaches down as far as if it had read 1. The interval holds the value.
    """
    reach = norm.isf(0.025)
    spread = np.sqrt((error**2).mean(axis=0) + x.var(axis=0))
    middle = np.clip(x.mean(axis=0), 0, 1)
    low = np.minimum(np.clip(middle - reach * spread, 0, 1), values)
    high = np.maximum(np.clip(middle + reach * spread, 0, 1), values)
    return spread, low, high


def full_elsewhere(levels: Sequence[Level]) -> Numbers:
    """Return the chance that parts are full in each map, as the other maps of the set say: (maps, parts).

    A part is full in all maps, or it varies and is full in a few of them: one that is partial in one class is
    seldom full in another. Without other maps the chance is the share of full parts.
    """
    shares = np.clip([level.share for level in levels], _VARIED_FULL + 1e-3, 0.98)[:, None]
    chance = np.clip([level.chance_full for level in levels], 1e-9, 1 - 1e-9)
    full_to_partial = chance / (1 - chance) * (1 - shares) / shares
    says = np.log(full_to_partial / (_VARIED_FULL * full_to_partial + 1 - _VARIED_FULL))
    always = (shares - _VARIED_FULL) / (1 - _VARIED_FULL)
    odds = np.log(always / (1 - always)) + says.sum(axis=0) - says
    always = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
    return np.asarray(always + (1 - always) * _VARIED_FULL)
