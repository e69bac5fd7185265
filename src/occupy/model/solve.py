"""Occupancies, relative B-factors and the scale of every shell, from inner products alone.

The model of a map's coefficients in shell s is c(s) Σ oᵢ exp(−Bᵢ s²/4) ρᵢ, with noise of variance σ²(s). It
is fitted by maximum likelihood: Gauss-Newton steps in o and B with every c(s) eliminated (variable
projection: Golub & Pereyra, SIAM J. Numer. Anal. 10, 413, 1973), and σ²(s) from what is left over. What the
model does not explain counts as noise, so that shells where the model is poor weigh little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

from occupy.errors import InputError
from occupy.model.density import Lattice, Numbers, weighted_sum


@dataclass(frozen=True, eq=False)
class Products:
    """Inner products per shell.

    Attributes
    ----------
    parts : ndarray, shape (shells, parts, parts)
        Of parts with parts.
    maps : ndarray, shape (maps, shells, parts)
        Of maps with parts.
    power : ndarray, shape (maps, shells)
        Of each map with itself.
    count : ndarray, shape (shells,)
        Real numbers in each shell.
    frequency : ndarray, shape (shells,)
        1/Å.
    """

    parts: Numbers
    maps: Numbers
    power: Numbers
    count: Numbers
    frequency: Numbers

    @classmethod
    def of(
        cls, parts: npt.NDArray[np.complex64], maps: npt.NDArray[np.complex64], lattice: Lattice
    ) -> Products:
        """Return the inner products of parts (parts, n) and maps (maps, n) on a lattice."""
        weights = lattice.weights
        of_parts, of_maps, power = [], [], []
        for low, high in zip(lattice.starts[:-1], lattice.starts[1:], strict=True):
            rows = np.ascontiguousarray(parts[:, low:high] * weights[low:high]).view(np.float32)
            data = np.ascontiguousarray(maps[:, low:high] * weights[low:high]).view(np.float32)
            of_parts.append((rows @ rows.T).astype(np.float64))
            of_maps.append((data @ rows.T).astype(np.float64))
            power.append((data.astype(np.float64) ** 2).sum(axis=1))
        return cls(
            np.array(of_parts),
            np.array(of_maps).transpose(1, 0, 2),
            np.array(power).T,
            lattice.count,
            lattice.frequency,
        )


ICE = 0.0775
"""Scattering of displaced ice per Å³: 0.0945 for vitreous ice of 0.93 g/cm³, times 0.82, the heavy atoms'
share of the scattering of protein, since models leave out the hydrogens. It is not fitted: in maps that
RELION reconstructed a free value came out a quarter too high and put proteins 12 % above RNA."""
FIRST_MIX = (0.5, 0.2)
ROUNDS = 30
B_PRIOR = 60.0
"""Å²: standard deviation of the parts' relative B-factors, before the map is looked at."""
_B_BETWEEN_MAPS, _CLASS_NOISE = 10.0, 0.2
"""Å²: how much a part's B-factor differs between the maps of a set; 30 Å² gives a little less. And the share
of a shell's power that counts as noise in them: in RELION's classes parts differ from their mean 1.3 to 1.4
times too much in shells below 1/25 Å, 1.0 to 1.07 times above 1/20 Å, however strong the low ones are, so
these may not decide alone. 0.1 and 0.3 do nearly as well."""
_MOST_B = 1000.0
"""Å²: steps of the fit go no further."""
OCCUPANCY_PRIOR = 0.8
"""Mean and standard deviation of an occupancy before the map is looked at, where the mean over all parts,
weighted by what they scatter, is 1."""
LEAST_NOISE = 1e-5
"""Variance of the noise relative to the map's power, at least: more is float32's rounding."""


@dataclass(frozen=True, eq=False)
class Solution:
    """One map's joint fit, on an arbitrary scale.

    Attributes
    ----------
    occupancy, b_factor : ndarray, shape (parts,)
        Relative occupancy (may be negative) and B-factor in Å².
    covariance : ndarray, shape (2 parts, 2 parts)
        Of both together, from the noise.
    scale, noise : ndarray, shape (shells,)
        c(s), and the variance of what is left over per real number.
    """

    occupancy: Numbers
    b_factor: Numbers
    covariance: Numbers
    scale: Numbers
    noise: Numbers


def damping(frequency: Numbers, b_factor: Numbers) -> Numbers:
    """Return exp(−B s²/4): (shells, parts)."""
    return np.asarray(np.exp(-np.outer(frequency**2 / 4, b_factor)))


def _scale_noise(products: Products, which: int, weight: Numbers, excess: float) -> tuple[Numbers, Numbers]:
    """Return c(s) and σ²(s) for given weights (shells, parts) of the parts."""
    model = np.einsum("si,si->s", weight, (products.parts @ weight[:, :, None])[:, :, 0])
    cross = np.einsum("si,si->s", weight, products.maps[which])
    scale = cross / np.maximum(model, 1e-30)
    left = products.power[which] - scale * cross
    power = products.power[which] / products.count
    # Scale and occupancies follow the data, so the freedom of a shell is a little less than its numbers.
    noise = np.maximum(left / np.maximum(products.count - 1, 1), LEAST_NOISE * power + 1e-30)
    return scale, noise + excess * power


def solve(
    products: Products,
    which: int = 0,
    *,
    start: Solution | None = None,
    usual_b: tuple[Numbers | float, float] = (0.0, B_PRIOR),
    excess: float = 0.0,
) -> Solution:
    """Fit one map.

    Parameters
    ----------
    products : Products
        Inner products of parts and maps.
    which : int
        Which of the maps.
    start : Solution, optional
        Where to begin; by default everything is equally present.
    usual_b : tuple
        Prior of the parts' B-factors: mean (one, or one per part) and standard deviation in Å².
    excess : float
        Share of each shell's power in the map that counts as noise too.

    Returns
    -------
    Solution
    """
    mean_b, spread_b = usual_b
    count = products.parts.shape[1]
    occupancy, b_factor = np.ones(count), np.zeros(count)
    if start is not None:
        occupancy, b_factor = start.occupancy, start.b_factor
    curvature = products.frequency**2 / 4
    covariance = np.eye(2 * count)
    # Size of each part, for the gauge: the overall scale belongs to c(s).
    size = np.sqrt(np.einsum("sii->i", products.parts))
    gauge = size / size.sum()
    for _ in range(ROUNDS):
        damp = damping(products.frequency, b_factor)
        weight = damp * occupancy
        scale, noise = _scale_noise(products, which, weight, excess)
        normal, gradient = _normal(products, which, occupancy, damp, curvature, scale, noise)
        strength = float(np.einsum("ii->", normal[:count, :count])) / count
        normal[:count, :count] += strength * 1e2 * np.outer(gauge, gauge)
        gradient[:count] -= strength * 1e2 * gauge * (float(gauge @ occupancy) - 1)
        normal[count:, count:] += np.eye(count) / spread_b**2
        gradient[count:] -= (b_factor - mean_b) / spread_b**2
        # Before the map is looked at, any part may be absent or full.
        normal[np.diag_indices(count)] += 1 / OCCUPANCY_PRIOR**2
        gradient[:count] -= (occupancy - OCCUPANCY_PRIOR) / OCCUPANCY_PRIOR**2
        covariance = _inverse(normal)
        step = covariance @ gradient
        reach = max(1.0, float(np.abs(step[count:]).max()) / 100.0, float(np.abs(step[:count]).max()))
        occupancy = occupancy + step[:count] / reach
        b_factor = np.clip(b_factor + step[count:] / reach, -_MOST_B, _MOST_B)
        if np.abs(step[:count]).max() < 1e-5 and reach == 1.0:
            break
    weight = damping(products.frequency, b_factor) * occupancy
    scale, noise = _scale_noise(products, which, weight, excess)
    return Solution(occupancy, b_factor, covariance, scale, noise)


def _inverse(normal: Numbers) -> Numbers:
    """Return the inverse of a normal matrix, with what the data do not hold taken as nearly unknown.

    Occupancies and B-factors differ by many powers of ten, and where a model explains little of a map, or two
    parts nearly coincide, rounding leaves eigenvalues below zero: they are raised to a billionth of a
    parameter's own weight.
    """
    if not np.isfinite(normal).all():
        raise InputError("the model can't be fitted to the map: is it in the map's frame, and of its hand?")
    try:
        return np.asarray(cho_solve(cho_factor(normal), np.eye(len(normal))))
    except LinAlgError:
        # Seldom, and ten times slower.
        pass
    size = 1 / np.sqrt(np.maximum(np.diag(normal), np.finfo(np.float64).tiny))
    values, vectors = np.linalg.eigh(normal * np.outer(size, size))
    scaled = vectors * size[:, None]
    return np.asarray((scaled / np.maximum(values, 1e-9)) @ scaled.T)


def solve_all(products: Products, start: Solution | None = None) -> list[Solution]:
    """Fit every map; how flexible a part is, is nearly the same in all of them.

    The B-factors of each map are drawn to their mean over the maps, weighted by how well each map knows
    them. It takes a fifth off the errors of unregularised RELION classes, where small parts leave occupancy
    and B-factor open together.
    """
    if len(products.maps) < 2:
        return [solve(products, start=start)]
    solutions = [solve(products, k, start=start, excess=_CLASS_NOISE) for k in range(len(products.maps))]
    count = products.parts.shape[1]
    for _ in range(2):
        known = np.array([1 / np.diag(s.covariance)[count:] for s in solutions])
        found = np.array([s.b_factor for s in solutions])
        # The prior around 0 counts once, as one more map would.
        mean = (known * found).sum(axis=0) / (known.sum(axis=0) + 1 / B_PRIOR**2)
        solutions = [
            solve(products, k, start=s, usual_b=(mean, _B_BETWEEN_MAPS), excess=_CLASS_NOISE)
            for k, s in enumerate(solutions)
        ]
    return solutions


def _normal(
    products: Products,
    which: int,
    occupancy: Numbers,
    damp: Numbers,
    curvature: Numbers,
    scale: Numbers,
    noise: Numbers,
) -> tuple[Numbers, Numbers]:
    """Return normal matrix and gradient of (o, B), with the scale of every shell eliminated."""
    count = len(occupancy)
    weight = damp * occupancy
    inner = (products.parts @ weight[:, :, None])[:, :, 0]
    model = np.maximum(np.einsum("si,si->s", weight, inner), 1e-30)
    strength = scale**2 / noise
    # d(model)/d(o) = damp ρ and d(model)/dB = −s²/4 o damp ρ, both times c(s).
    columns = np.concatenate([damp, -curvature[:, None] * weight], axis=1)
    doubled = np.concatenate([inner, inner], axis=1) * columns
    normal = np.zeros((2 * count, 2 * count))
    blocks = ((slice(0, count), damp), (slice(count, None), -curvature[:, None] * weight))
    for rows, left in blocks:
        for others, right in blocks:
            normal[rows, others] = np.einsum(
                "s,si,sij,sj->ij", strength, left, products.parts, right, optimize=True
            )
    normal -= np.einsum("s,si,sj->ij", strength / model, doubled, doubled, optimize=True)
    residual = products.maps[which] - scale[:, None] * inner
    gradient = np.einsum("s,si->i", scale / noise, np.concatenate([residual, residual], axis=1) * columns)
    return normal, gradient


def ice_of(mix: Numbers) -> Numbers:
    """Return the scattering per Å³ of the three shapes of ice.

    Parameters
    ----------
    mix : (2,) array
        Share of the space that water cannot enter, the rest being the atoms' volumes; and share of the layer
        around the molecule that is displaced too.
    """
    return ICE * np.array([1 - mix[0], mix[0], mix[1]])


def ice_mix(
    shapes: npt.NDArray[np.complex64],
    data: npt.NDArray[np.complex64],
    lattice: Lattice,
    solution: Solution,
    start: Numbers,
) -> Numbers:
    """Return the shape of the displaced ice that explains most, for known occupancies.

    Parameters
    ----------
    shapes : (shapes, parts, n) array
        Coefficients, see `occupy.model.density.shape_coefficients`.
    data : (n,) array
        The map's coefficients.
    lattice : Lattice
        Of both.
    solution : Solution
        Occupancies and B-factors.
    start : (2,) array
        Where to begin.

    Returns
    -------
    ndarray, shape (2,)
        See `ice_of`.
    """
    weight = damping(lattice.frequency, solution.b_factor) * solution.occupancy
    whole = np.stack([weighted_sum(shape, weight, lattice) for shape in shapes])
    found = Products.of(whole, data[None], lattice)
    power = found.power[0] / found.count

    def cost(mix: Numbers) -> float:
        row = np.concatenate([[1.0], -ice_of(mix)])
        model = found.parts @ row @ row
        left = found.power[0] - (found.maps[0] @ row) ** 2 / np.maximum(model, 1e-30)
        noise = np.maximum(left / found.count, LEAST_NOISE * power + 1e-30)
        # Per number: the optimiser's steps and tolerances are for values around 1.
        return float(found.count @ np.log(noise) / found.count.sum())

    # In the layer around the molecule ice is displaced or, below 0, taken on: hydration shells are denser.
    bounds = [(0.0, 1.0), (-0.3, 1.0)]
    best = minimize(cost, start, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-13, "eps": 1e-4})
    return np.asarray(best.x, dtype=np.float64)
