"""Occupancies of a model's parts by a joint fit to a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.model import AtomicModel
from occupy.model.density import (
    SHAPES,
    Atoms,
    Indices,
    Lattice,
    Numbers,
    Triple,
    correlations_when_moved,
    map_coefficients,
    on_grid,
    sampled,
    shape_coefficients,
    unmodelled,
    weighted_sum,
)
from occupy.model.level import PARTIAL_ERROR_OF_CLASSES, Level, full_elsewhere, model_error
from occupy.model.solve import FIRST_MIX, Products, Solution, damping, ice_mix, ice_of, solve, solve_all
from occupy.settings import short_repr

_FINEST, _FINEST_SMALL, _FINER = 6.0, 4.0, 5.0
"""Å: finer detail says more of the atoms' B-factors than of how many there are. But parts of fewer than
`SMALL` atoms are not told from what is around them at 6 Å: haems in haemoglobin read 0.8, at 4 Å 1.0. Grids
that end above 5 Å are not worth it: for the 50S subunit 5.5 Å takes a third more time, and errs alike."""
SMALL = 100
ICE_ROUNDS, ICE_CONVERGED = 10, 0.003
_UNMODELLED_ROUNDS, _LEAST_UNMODELLED = 2, 0.015
"""Share of a map's power in density without a model from which on the fit is done again without it. Complete
models have 0.0003 to 0.003, by water around them; without side chains 0.004 to 0.01; chains left out or
belts of detergent 0.02 to 0.14."""
MOST_PARTS = 1500
PHOSPHORUS, NUCLEIC_PHOSPHORUS = 15, 0.02
"""A part with so large a share of phosphorus is nucleic acid, which has .045 of it, or 1 if only traced."""
ATOMS_PER_RESIDUE = {True: 21.0, False: 7.8}
"""Heavy atoms of a mean nucleotide (True) and amino acid."""


@dataclass(frozen=True, eq=False)
class PartFit:
    """Occupancies of a model's parts in one map.

    Attributes
    ----------
    names : tuple of str
        Of the parts.
    values, errors, low, high : ndarray, shape (parts,)
        Occupancy (posterior median), standard error and 95 % interval; these two are not narrower where a
        part is likely to be full.
    chance_full : ndarray, shape (parts,)
        Posterior chance that a part is full.
    unlimited : ndarray, shape (parts,)
        Least-squares occupancy relative to full, which may lie below 0 or above 1.
    covariance : ndarray, shape (parts, parts)
        Of ``unlimited``: noise and faults of the model, without the error of the level.
    b_factors : ndarray, shape (parts,)
        Å² relative to each other.
    level : Level
        What full is, with its error, relative to ``full_scale``.
    frequency, scale, noise : ndarray, shape (shells,)
        1/Å; map over model; variance of what the model leaves over.
    ice : ndarray, shape (2,)
        Shape of the displaced ice, see `occupy.model.solve.ice_of`.
    lattice : Lattice
        Where the fit looked.
    explained, observed, whole : ndarray of complex64, shape (n,)
        Coefficients of the fitted model, of the map, and of the model with all parts equally present.
    """

    names: tuple[str, ...]
    values: Numbers
    errors: Numbers
    low: Numbers
    high: Numbers
    chance_full: Numbers
    unlimited: Numbers
    covariance: Numbers
    b_factors: Numbers
    level: Level
    frequency: Numbers
    scale: Numbers
    noise: Numbers
    ice: Numbers
    lattice: Lattice
    explained: npt.NDArray[np.complex64]
    observed: npt.NDArray[np.complex64]
    whole: npt.NDArray[np.complex64]

    __repr__ = short_repr

    @property
    def residual(self) -> npt.NDArray[np.float32]:
        """What the model does not explain of the map, on the voxels of the lattice's box."""
        return on_grid(self.observed - self.explained, self.lattice)

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False


def _chains_of(model: AtomicModel) -> dict[str, Indices]:
    """Return the atoms of every chain, water left out."""
    return {n: np.flatnonzero(np.isin(model.residue, rows)) for n, rows in model.residues_by_chain.items()}


def fit_parts(
    data: npt.ArrayLike,
    voxel_size: Triple,
    model: AtomicModel,
    parts: Mapping[str, Indices] | None = None,
    *,
    origin: Triple = (0.0, 0.0, 0.0),
    resolution: float | None = None,
) -> PartFit:
    """Fit the occupancies of a model's parts to a map, all together.

    The map is c(s) Σ oᵢ exp(−Bᵢ s²/4) ρᵢ plus noise: see docs/explanation/joint-fit.md.

    Parameters
    ----------
    data : (nz, ny, nx) array
        Map with axes z, y, x; sharpened, low-passed and masked ones too.
    voxel_size : tuple of float
        Å along z, y, x.
    model : AtomicModel
        In the map's frame.
    parts : mapping of str to ndarray of int, optional
        Name → atoms of the model; no atom twice. By default its chains. Atoms of no part are fitted as one
        more part that is not reported.
    origin : tuple of float
        x, y, z in Å of the map's first voxel.
    resolution : float, optional
        Å; finest detail looked at. By default 6 Å or what the voxels allow.

    Returns
    -------
    PartFit

    Raises
    ------
    InputError
        Where the map is not finite, a part is empty, names atoms that are not there, or lies outside.
    """
    return fit_set({"map": data}, voxel_size, model, parts, origin=origin, resolution=resolution)["map"]


def fit_set(
    maps: Mapping[str, npt.ArrayLike | Callable[[], npt.ArrayLike]],
    voxel_size: Triple,
    model: AtomicModel,
    parts: Mapping[str, Indices] | None = None,
    *,
    origin: Triple = (0.0, 0.0, 0.0),
    resolution: float | None = None,
) -> dict[str, PartFit]:
    """Fit the occupancies of a model's parts to each of several maps of one grid, with one set of densities.

    Every map has a scale per shell and a full level of its own. The shape of the displaced ice is found in
    all together, and the parts' B-factors are drawn to their means over the maps.

    Parameters
    ----------
    maps : mapping of str to (nz, ny, nx) array
        Name → map, for example the classes of a classification; or name → function that returns it, so that
        one map at a time is in memory.
    voxel_size, model, parts, origin, resolution
        As for `fit_parts`.

    Returns
    -------
    dict of str to PartFit

    Raises
    ------
    InputError
        As `fit_parts`, or where the maps differ in size.
    """
    names, groups = _complete(dict(_chains_of(model) if parts is None else parts), model)
    atoms = Atoms(model.xyz - np.array(origin), model.elements, _weights(model))
    finest = resolution or finest_detail(min(map(len, groups)), voxel_size)
    rows: dict[str, npt.NDArray[np.complex64]] = {}
    sizes: set[tuple[int, ...]] = set()
    lattice: Lattice | None = None
    for name, given in maps.items():
        volume = _checked(given() if callable(given) else given, voxel_size, name)
        sizes.add(volume.shape)
        if len(sizes) > 1:
            raise InputError(f"maps of a set must be of one size, not {' and '.join(map(str, sizes))}")
        if lattice is None:
            lattice = _lattice(volume.shape, voxel_size, atoms, groups, max(finest, 2.02 * max(voxel_size)))
        rows[name] = map_coefficients(volume, lattice)
        if not np.abs(rows[name]).max(initial=0.0) > 0:
            raise InputError(f"{name} is empty where the model lies: is the model in the map's frame?")
    if lattice is None:
        raise InputError("no maps to fit a model to")
    observed = np.array(list(rows.values()))
    shapes = shape_coefficients(atoms, groups, lattice)
    mix, start = _mix_of(shapes, observed, lattice)
    coefficients = mixed(shapes, mix, out=shapes[0])
    del shapes
    solutions = solve_all(Products.of(coefficients, observed, lattice), start)
    solutions, accounted = _without_unmodelled(coefficients, observed, solutions, atoms.points, lattice)
    phosphorus = np.array([(atoms.elements[group] == PHOSPHORUS).mean() for group in groups])
    partial_error = PARTIAL_ERROR_OF_CLASSES if len(rows) > 1 else 0.0
    named = _Named(names, groups, atoms.points, phosphorus > NUCLEIC_PHOSPHORUS, partial_error)
    whole = coefficients.sum(axis=0)
    explained = [_explained(coefficients, solution, lattice) for solution in solutions]
    del coefficients
    amiss = [
        model_error(row - fitted, whole, lattice, solution, atoms.points, groups)
        for row, fitted, solution in zip(accounted, explained, solutions, strict=True)
    ]
    levels = [_level(named, solution, wrong) for solution, wrong in zip(solutions, amiss, strict=True)]
    if len(levels) > 1:
        likely = full_elsewhere(levels)
        levels = [_level(named, *row) for row in zip(solutions, amiss, likely, strict=True)]
    return {
        name: _result(names, solution, level, mix, lattice, (fitted, row, whole))
        for (name, row), fitted, solution, level in zip(
            rows.items(), explained, solutions, levels, strict=True
        )
    }


def finest_detail(atoms: int, voxel_size: Triple) -> float:
    """Return the finest detail to look at, in Å, where the smallest part has so many atoms."""
    return _FINEST_SMALL if atoms < SMALL and 2.02 * max(voxel_size) < _FINER else _FINEST


@dataclass(frozen=True, eq=False)
class _Named:
    """What is known of parts beside their densities: the atoms of each, those of none last."""

    names: tuple[str, ...]
    groups: list[Indices]
    points: Numbers
    nucleic: npt.NDArray[np.bool_]
    partial_error: float


def _checked(data: npt.ArrayLike, voxel_size: Triple, name: str) -> npt.NDArray[np.float32]:
    volume = np.asarray(data, dtype=np.float32)
    if volume.ndim != 3:
        raise InputError(f"{name} must have three axes, not {volume.ndim}")
    if not np.isfinite(volume).all():
        raise InputError(f"{name} has values that are not numbers")
    if len(voxel_size) != 3 or not all(np.isfinite(a) and a > 0 for a in voxel_size):
        raise InputError(f"voxel size must be three positive numbers in Å, not {voxel_size}")
    return volume


def _complete(parts: Mapping[str, Indices], model: AtomicModel) -> tuple[tuple[str, ...], list[Indices]]:
    """Return names, and atoms of each part followed by those of none."""
    if not parts:
        raise InputError("no parts to fit: the model has no atoms but water")
    if len(parts) > MOST_PARTS:
        raise InputError(
            f"{len(parts)} parts are more than a joint fit takes ({MOST_PARTS}): fit fewer, larger ones"
        )
    groups = [np.asarray(atoms, dtype=np.intp) for atoms in parts.values()]
    taken = np.zeros(len(model.residue), dtype=np.intp)
    for name, group in zip(parts, groups, strict=True):
        if not len(group):
            raise InputError(f"part {name!r} has no atoms")
        if group.min() < 0 or group.max() >= len(taken):
            raise InputError(f"part {name!r} names atoms that the model of {len(taken)} does not have")
        np.add.at(taken, group, 1)
    if taken.max() > 1:
        twice = model.residues[int(model.residue[int(taken.argmax())])]
        raise InputError(f"residue {model.chain_label(twice)}/{twice.label} is in two parts")
    dry = np.array([residue.kind != "water" for residue in model.residues], dtype=bool)
    rest = np.flatnonzero((taken == 0) & dry[model.residue])
    return tuple(parts), groups + ([rest] if len(rest) else [])


def _weights(model: AtomicModel) -> Numbers:
    """Return how many atoms each stands for: in traces, all of its residue."""
    polymer = np.array([residue.kind == "polymer" for residue in model.residues], dtype=bool)[model.residue]
    residues = len(np.unique(model.residue[polymer]))
    # Fewer atoms per residue are a trace: each then stands for its residue.
    if not residues or polymer.sum() > 1.5 * residues:
        return model.shares
    stands = np.where(model.elements == PHOSPHORUS, ATOMS_PER_RESIDUE[True], ATOMS_PER_RESIDUE[False])
    return np.where(polymer, stands, 1.0) * model.shares


def _lattice(
    size: tuple[int, ...],
    voxel_size: Triple,
    atoms: Atoms,
    groups: list[Indices],
    resolution: float,
) -> Lattice:
    """Return the lattice of the map around the model."""
    points = atoms.points[np.concatenate(groups), ::-1] / np.array(voxel_size)
    inside = ((points >= -0.5) & (points <= np.array(size) - 0.5)).all(axis=1)
    if inside.mean() < 0.5:
        raise InputError(
            f"{1 - inside.mean():.0%} of the model lies outside the map: is it in the map's frame?"
        )
    # The fit looks at 15 Å around the model.
    margin = 15.0 / np.array(voxel_size)
    low = np.clip(np.floor(points[inside].min(axis=0) - margin), 0, None).astype(int)
    high = np.minimum(np.ceil(points[inside].max(axis=0) + margin).astype(int) + 1, size)
    start = (int(low[0]), int(low[1]), int(low[2]))
    shape = (int(high[0] - low[0]), int(high[1] - low[1]), int(high[2] - low[2]))
    volume_angstrom = float(np.prod(shape) * np.prod(voxel_size))
    numbers = SHAPES * len(groups) * volume_angstrom * 2 * np.pi / 3
    # Beyond 1.2e8 coefficients of all shapes of all parts, of 8 bytes each, it looks less fine.
    return Lattice.of(start, shape, voxel_size, max(resolution, (numbers / 1.2e8) ** (1 / 3)))


def _mix_of(
    shapes: npt.NDArray[np.complex64], observed: npt.NDArray[np.complex64], lattice: Lattice
) -> tuple[Numbers, Solution]:
    """Return the shape of the ice, and the occupancies it goes with in the mean of all maps."""
    mix = np.array(FIRST_MIX)
    # Some 25 000 coefficients will do: the ice concerns all parts together.
    few, kept = lattice.thinned(max(1, lattice.index.shape[1] // 25_000))
    some = np.take(shapes, kept, axis=2)
    # Each map counts alike, whatever its units.
    strength = np.sqrt((np.abs(observed) ** 2).mean(axis=1, keepdims=True))
    seen = (observed[:, kept] / strength).mean(axis=0)
    solution = solve(Products.of(mixed(some, mix), seen[None], few))
    for _ in range(ICE_ROUNDS):
        before = mix
        mix = ice_mix(some, seen, few, solution, mix)
        if np.abs(mix - before).max() < ICE_CONVERGED:
            break
        solution = solve(Products.of(mixed(some, mix), seen[None], few), start=solution)
    return mix, solution


def mixed(
    shapes: npt.NDArray[np.complex64], mix: Numbers, out: npt.NDArray[np.complex64] | None = None
) -> npt.NDArray[np.complex64]:
    """Return the parts' coefficients: atoms minus ice of a certain shape. ``out`` may be the atoms' own."""
    out = np.empty_like(shapes[0]) if out is None else out
    strengths = np.concatenate([[1.0], -ice_of(mix)]).astype(np.complex64)
    for part in range(shapes.shape[1]):
        out[part] = strengths @ shapes[:, part]
    return out


def _without_unmodelled(
    coefficients: npt.NDArray[np.complex64],
    observed: npt.NDArray[np.complex64],
    solutions: list[Solution],
    points: Numbers,
    lattice: Lattice,
) -> tuple[list[Solution], npt.NDArray[np.complex64]]:
    """Fit maps again without density that has no model, which neighbours would be fitted to.

    Returns
    -------
    solutions : list of Solution
        As they were, where there is hardly any such density.
    observed : ndarray of complex64, shape (maps, n)
        The maps without it.
    """
    accounted = observed
    for _ in range(_UNMODELLED_ROUNDS):
        fitted = (_explained(coefficients, solution, lattice) for solution in solutions)
        rows = zip(observed, fitted, strict=True)
        extra = np.array([_without_model(row, model, points, lattice) for row, model in rows])
        if not extra.any():
            break
        accounted = observed - extra
        solutions = solve_all(Products.of(coefficients, accounted, lattice), solutions[0])
    return solutions, accounted


def _without_model(
    observed: npt.NDArray[np.complex64],
    explained: npt.NDArray[np.complex64],
    points: Numbers,
    lattice: Lattice,
) -> npt.NDArray[np.complex64]:
    """Return a map's density without a model; none where there is little, or the model lies elsewhere."""
    found = unmodelled(observed - explained, points, lattice)
    if np.linalg.norm(found) ** 2 >= _LEAST_UNMODELLED * np.linalg.norm(observed) ** 2:
        moved = correlations_when_moved(observed, explained, sampled(lattice))
        if moved.max() < 1.02 * moved[0, 0, 0]:
            return found
    return np.zeros_like(found)


def _explained(
    coefficients: npt.NDArray[np.complex64], solution: Solution, lattice: Lattice
) -> npt.NDArray[np.complex64]:
    """Return the coefficients of the fitted model."""
    damp = damping(lattice.frequency, solution.b_factor) * solution.occupancy * solution.scale[:, None]
    return weighted_sum(coefficients, damp, lattice)


def _level(named: _Named, solution: Solution, amiss: float, likely_full: Numbers | None = None) -> Level:
    """Return what full is in a map, and the parts' occupancies."""
    count = len(named.names)
    sizes = np.array([len(group) for group in named.groups[:count]], dtype=np.float64)
    return Level.of(
        solution.occupancy[:count],
        np.sqrt(np.diag(solution.covariance)[:count]),
        # Small parts read less well, and glycans or lipids that come and go together would count many times:
        # they don't say what full is.
        sizes >= max(0.3 * float(np.median(sizes)), SMALL),
        sizes,
        named.partial_error,
        named.nucleic[:count],
        amiss,
        likely_full,
    )


def _result(
    names: tuple[str, ...],
    solution: Solution,
    level: Level,
    ice: Numbers,
    lattice: Lattice,
    maps: tuple[npt.NDArray[np.complex64], ...],
) -> PartFit:
    """Return a map's fit; ``maps`` are the coefficients of the fitted model, the map, and all parts."""
    count = len(names)
    explained, observed, whole = maps
    noise = solution.covariance[:count, :count] / np.outer(level.fulls, level.fulls)
    return PartFit(
        names=names,
        values=level.values,
        errors=level.errors,
        low=level.low,
        high=level.high,
        chance_full=level.chance_full,
        unlimited=solution.occupancy[:count] / level.fulls,
        covariance=noise + np.diag(level.model_errors**2),
        b_factors=solution.b_factor[:count],
        level=level,
        frequency=lattice.frequency,
        scale=solution.scale * level.full,
        noise=solution.noise,
        ice=ice,
        lattice=lattice,
        explained=explained,
        observed=observed,
        whole=whole * lattice.spread(solution.scale),
    )
