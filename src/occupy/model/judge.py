"""What a joint fit can and cannot say: bound or not, parts not told apart, parts that do not fit the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.fft import irfftn, rfftn
from scipy.stats import norm

from occupy.errors import InputError
from occupy.model import Alternatives
from occupy.model.density import Indices, Numbers, Triple, correlations_when_moved, on_grid
from occupy.model.fit import PartFit

FALSE_ALARMS = 0.05
"""Chance that a part that is absent counts as present, and that one at the detection limit does not."""
UNTOLD_ERROR = 0.25
"""A part whose occupancy the map leaves open by more than this (standard error) is not a number."""
NEAR = 3.0
"""Å around atoms where map and model are compared."""
_DRAWS = 20000
POOR_CORRELATION = 0.5
"""A part below this, or this share of the median part's correlation, is flagged as not fitting."""


@dataclass(frozen=True)
class _Presence:
    """Whether one part is there.

    Attributes
    ----------
    absent, full : float
        p-values of the likelihood-ratio tests against absence (one-sided) and fullness (one-sided).
    limit : float
        Detection limit: an occupancy this high is found present with 95 % chance, at 5 % false alarms.
    present : bool
        Whether absence is rejected at 5 %.
    """

    absent: float
    full: float
    limit: float
    present: bool


def presence(fit: PartFit) -> dict[str, _Presence]:
    """Test every part against absence and against fullness.

    The fit is linear in occupancy with normal errors, so twice the log-likelihood ratio is the square of the
    occupancy over its standard error, and of its distance from full.

    Parameters
    ----------
    fit : PartFit
        Joint fit.

    Returns
    -------
    dict of str to Presence
    """
    error = np.sqrt(np.diag(fit.covariance))
    full_error = np.hypot(error, fit.level.error / fit.level.full)
    one_sided = norm.isf(FALSE_ALARMS)
    found = {}
    for name, value, e, f in zip(fit.names, fit.unlimited, error, full_error, strict=True):
        absent, full = float(norm.sf(value / e)), float(norm.cdf((value - 1) / f))
        found[name] = _Presence(absent, full, float(2 * one_sided * e), absent < FALSE_ALARMS)
    return found


def difference(fit: PartFit, one: str, other: str) -> tuple[float, float]:
    """Return how much more of one part there is than of another, and its standard error.

    Parameters
    ----------
    fit : PartFit
        Joint fit.
    one, other : str
        Names of parts; KeyError where there is none.
    """
    for name in (one, other):
        if name not in fit.names:
            raise KeyError(f"no part {name!r} in this fit")
    i, j = fit.names.index(one), fit.names.index(other)
    c = fit.covariance
    return float(fit.unlimited[i] - fit.unlimited[j]), float(np.sqrt(c[i, i] + c[j, j] - 2 * c[i, j]))


def with_sums(fit: PartFit, groups: Sequence[Alternatives]) -> PartFit:
    """Return a fit in which the occupancies of alternatives in one place sum up to 1, or to 1 at most.

    Draws from the normal posterior of each group, with the error of the full level, are kept where none is
    negative and the sum is within 1. Where it has to be 1, or hardly any draw is within, they are conditioned
    on a sum of 1. Values are then medians, of complete groups means, which sum up to 1.

    Parameters
    ----------
    fit : PartFit
        Joint fit.
    groups : sequence of Alternatives
        Parts that exclude each other; InputError where there is no such part.
    """
    values, errors, low, high = (np.array(getattr(fit, n)) for n in ("values", "errors", "low", "high"))
    for group, complete in groups:
        strange = [name for name in group if name not in fit.names]
        if strange or len(set(group)) < 2:
            known = ", ".join(fit.names[:8])
            raise InputError(
                f"no alternatives: {' | '.join(group)} (there are {known}{' …' * (len(fit.names) > 8)})"
            )
        rows = [fit.names.index(name) for name in group]
        kept = _within_one(fit, rows, complete)
        low[rows], values[rows], high[rows] = np.quantile(kept, (0.025, 0.5, 0.975), axis=0)
        if complete:
            values[rows] = kept.mean(axis=0)
        errors[rows] = kept.std(axis=0)
    return replace(fit, values=values, errors=errors, low=low, high=high)


def _within_one(fit: PartFit, rows: Sequence[int], complete: bool) -> Numbers:
    """Return draws of some parts' occupancies that sum up to 1, at most or exactly: (draws, parts)."""
    found = fit.unlimited[rows]
    of_level = found * fit.level.error / fit.level.full
    covariance = fit.covariance[np.ix_(rows, rows)] + np.outer(of_level, of_level)
    draws = np.random.default_rng(0).multivariate_normal(found, covariance, size=_DRAWS)
    # The share of the excess that each takes is that of its error in the error of the sum.
    excess = np.outer(draws.sum(axis=1) - 1, covariance.sum(axis=1) / covariance.sum())
    exactly = draws - excess
    draws = exactly if complete else draws
    inside = draws[(draws >= 0).all(axis=1) & (draws.sum(axis=1) <= 1 + 1e-9)]
    if len(inside) >= _DRAWS // 100:
        return np.asarray(inside)
    clipped = np.maximum(np.where(excess.sum(axis=1, keepdims=True) > 0, exactly, draws), 0)
    total = clipped.sum(axis=1, keepdims=True)
    return np.asarray(clipped / (total if complete else np.maximum(total, 1)))


def not_separable(fit: PartFit) -> dict[str, tuple[str, ...]]:
    """Return parts the map cannot tell from others, with which: first the most opposed.

    Parameters
    ----------
    fit : PartFit
        Joint fit.

    Returns
    -------
    dict of str to tuple of str
        Empty tuple: the part is too small for this map whatever is around it.
    """
    error = np.sqrt(np.diag(fit.covariance))
    opposed = fit.covariance / np.outer(error, error)
    found: dict[str, tuple[str, ...]] = {}
    for i, name in enumerate(fit.names):
        # Of parts with errors so opposed the map knows the sum, not which is there.
        partners = [j for j in np.argsort(opposed[i]).tolist() if j != i and opposed[i, j] < -0.9]
        if error[i] > UNTOLD_ERROR:
            partners = partners or [j for j in np.argsort(opposed[i]).tolist()[:1] if opposed[i, j] < -0.5]
        if partners or error[i] > UNTOLD_ERROR:
            found[name] = tuple(fit.names[j] for j in partners)
    return found


def local_correlations(
    fit: PartFit, xyz: Numbers, parts: Mapping[str, Indices], origin: Triple = (0.0, 0.0, 0.0)
) -> dict[str, float]:
    """Return the correlation of map and fitted model around each part's atoms; NaN where it is outside.

    Parameters
    ----------
    fit : PartFit
        Joint fit.
    xyz : (atoms, 3) array
        Positions in Å.
    parts : mapping of str to ndarray of int
        Atoms of each part.
    origin : tuple of float
        x, y, z in Å of the map's first voxel.
    """
    observed, explained = (on_grid(c, fit.lattice) for c in (fit.observed, fit.explained))
    voxel, start = np.array(fit.lattice.voxel_size), np.array(fit.lattice.start)
    reach = [int(r) for r in np.ceil(NEAR / voxel)]
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[((offsets * voxel) ** 2).sum(axis=1) <= NEAR**2]
    found = {}
    for name, atoms in parts.items():
        points: Numbers = (xyz[atoms] - np.array(origin))[:, ::-1] / voxel - start
        at = np.unique((np.rint(points).astype(int)[:, None] + offsets).reshape(-1, 3), axis=0)
        at = at[((at >= 0) & (at < observed.shape)).all(axis=1)]
        found[name] = _correlation(observed[tuple(at.T)], explained[tuple(at.T)])
    return found


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    if len(a) < 3 or not (a.std() > 0 and b.std() > 0):
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def poor_parts(fit: PartFit, correlations: Mapping[str, float]) -> tuple[str, ...]:
    """Return the parts that are present but do not look like their density: misplaced or of another fold."""
    typical = float(np.nanmedian(list(correlations.values())))
    limit = min(POOR_CORRELATION, POOR_CORRELATION * typical)
    there = dict(zip(fit.names, fit.low.tolist(), strict=True))
    return tuple(n for n, c in correlations.items() if np.isfinite(c) and c < limit and there.get(n, 0) > 0.1)


def likely_shift(fit: PartFit) -> tuple[Triple, float, float]:
    """Return the shift (x, y, z in Å) that would bring the model onto the map, and the correlations.

    Parameters
    ----------
    fit : PartFit
        Joint fit.

    Returns
    -------
    shift : tuple of float
        To add to the model's positions.
    now, then : float
        Correlation of map and model as they are and after the shift.
    """
    # What was fitted may be anything in a wrong frame, but its outline is the model's.
    score = correlations_when_moved(fit.observed, fit.explained, fit.lattice)
    best = np.unravel_index(int(score.argmax()), score.shape)
    voxel = np.array(fit.lattice.voxel_size)
    zyx = np.array([(b + n // 2) % n - n // 2 for b, n in zip(best, fit.lattice.shape, strict=True)])
    x, y, z = (zyx * voxel)[::-1].tolist()
    return (x, y, z), float(score[0, 0, 0]), float(score.max())


def _likely_mirror(fit: PartFit) -> tuple[str, float, float]:
    """Return the axis along which the model would have to be mirrored to fit best, and the correlations.

    The whole model, all of it full, is compared at any shift, since a flipped file moves it too. A model
    that was fitted by rotation into a map of the other hand is not found by this.

    Parameters
    ----------
    fit : PartFit
        Joint fit.

    Returns
    -------
    axis : str
        x, y or z.
    now, then : float
        Highest correlation at any shift as it is, and mirrored.
    """
    z, y, x = (2 * (reach + 1) for reach in fit.lattice.reach)
    lattice = replace(fit.lattice, shape=(z, y, x))
    grids = [on_grid(row, lattice) for row in (fit.observed, fit.whole)]
    observed, whole = (grid / max(float(np.linalg.norm(grid)), 1e-30) for grid in grids)
    spectrum = rfftn(observed)

    def best(model: npt.NDArray[np.floating]) -> float:
        return float(irfftn(spectrum * np.conj(rfftn(model)), s=observed.shape).max())

    mirrored = {axis: best(np.flip(whole, number)) for number, axis in enumerate("zyx")}
    axis = max(mirrored, key=lambda name: mirrored[name])
    return axis, best(whole), mirrored[axis]


def check_placement(fit: PartFit, least: float = 0.2) -> None:
    """Raise InputError where the model explains next to nothing, with the shift that would help.

    Parameters
    ----------
    fit : PartFit
        Joint fit.
    least : float
        Correlation of map and model that counts as explained.
    """
    axis, plain, mirrored = _likely_mirror(fit)
    # On nine tuning maps of 3 to 8 Å the mirrored model had .31 to .78 of a right model's correlation, and
    # 1.10 to 1.40 of a wrong one's.
    if mirrored > 1.03 * plain:
        raise InputError(
            f"the model fits the map with {plain:.2f}, mirrored along {axis} with {mirrored:.2f}: "
            "is the map flipped, or of the other hand?"
        )
    shift, now, then = likely_shift(fit)
    if now >= least and then < 1.2 * now:
        return
    told = ", ".join(f"{step:+.0f}" for step in shift)
    advice = "no shift helps: is it another molecule, or of the other hand?"
    if then > max(1.2 * now, least):
        advice = f"moved by ({told}) Å it would fit with {then:.2f}"
    raise InputError(f"the model does not fit the map (correlation {now:.2f}): {advice}")
