"""What each view tells of each part, and whether a part's occupancy depends on the view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, norm

from occupy.errors import Notice
from occupy.particles.evidence import Evidence, Spread
from occupy.particles.presence import Levels, alone

Array = npt.NDArray[np.float64]

_CELLS = 48
"""Directions that views are sorted to."""

_SURELY, _WORTH_SAYING = 1e-3, 0.05
"""Chance, for all parts together, at which occupancy is said to depend on the view; and by how much it must
(root mean square over the sphere)."""


@dataclass(frozen=True, eq=False)
class Views:
    """Parts by the direction they are looked at.

    Attributes
    ----------
    directions : ndarray of float64, shape (V, 3)
        x, y, z of unit vectors in the frame of the model, along which images look.
    particles : ndarray of int64, shape (V,)
        Entries whose view is nearest to each.
    occupancy, standard_error : ndarray of float64, shape (V, C)
        A smooth function on the sphere (harmonics up to the second), relative to the parts that are always
        there.
    tells : ndarray of float64, shape (V, C)
        Area under the receiver operating characteristic that a single image of this view is expected to reach
        for a part's presence; nan where nobody looks.
    hides : ndarray of int64, shape (V, C)
        The part that most of a part's information is lost to there.
    deviation : ndarray of float64, shape (C,)
        Root mean square deviation of occupancy over the views that there are, their noise taken off.
    chance : ndarray of float64, shape (C,)
        Probability of such a dependence on the view by chance.
    """

    directions: Array
    particles: npt.NDArray[np.int64]
    occupancy: Array
    standard_error: Array
    tells: Array
    hides: npt.NDArray[np.int64]
    deviation: Array
    chance: Array

    @property
    def dependent(self) -> npt.NDArray[np.bool_]:
        """Parts whose occupancy depends on the view, (C,)."""
        return (self.chance * len(self.chance) < _SURELY) & (self.deviation > _WORTH_SAYING)


def presence_by_view(
    evidence: Evidence, matrices: Array, spread: Spread, levels: Levels, occupancy: Array
) -> Views:
    """Sort by views what images say.

    Parameters
    ----------
    evidence : Evidence
        Of N entries.
    matrices : ndarray of float64, shape (N, 3, 3)
        Their poses.
    spread : Spread
        Of amplitudes over the particles.
    levels : Levels
        Which parts vary.
    occupancy : ndarray of float64, shape (C,)
        Of all particles together.
    """
    along = matrices[:, 2]
    directions = _sphere(_CELLS)
    cell = (along @ directions.T).argmax(axis=1)
    harmonics, here = _harmonics(along), _harmonics(directions)
    core = _influence(*_core(evidence, spread, levels), harmonics)
    columns, tells = [], []
    for part in range(evidence.parts):
        gradient, curvature = alone(evidence, spread, part)
        amplitude = float(evidence.amplitudes[part])
        # What contrast there is in a view, parts that are always there say: occupancy is relative to them.
        influence = _influence(gradient * amplitude, curvature * amplitude**2, harmonics) - core
        columns.append(_smooth(evidence.per_particle(influence), here, harmonics))
        separation = levels.full * np.sqrt(np.maximum(_mean(curvature, cell), 0))
        tells.append(norm.cdf(separation / np.sqrt(2)))
    change, error, deviation, chance = (np.stack(each, axis=-1) for each in zip(*columns, strict=True))
    return Views(
        directions, np.bincount(cell, minlength=_CELLS), occupancy * (1 + change), occupancy * error,
        np.stack(tells, axis=1), _hiding(evidence, cell), occupancy * deviation, chance,
    )  # fmt: skip


def _sphere(count: int) -> Array:
    """Directions spread evenly over the sphere (golden spiral)."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


def _harmonics(along: Array) -> Array:
    """Real spherical harmonics up to the second, of mean square 1: (n, 9), the constant first."""
    x, y, z = along.T
    second = np.sqrt(15) * np.stack([x * y, y * z, z * x, (x**2 - y**2) / 2], axis=1)
    first = np.sqrt(3) * along
    return np.column_stack([np.ones(len(along)), first, second, np.sqrt(5) / 2 * (3 * z**2 - 1)])


def _core(evidence: Evidence, spread: Spread, levels: Levels) -> tuple[Array, Array]:
    """Gradient and curvature of the common amplitude of the parts that are always there."""
    varying = levels.varying if not levels.varying.all() else evidence.amplitudes < 0.9 * levels.full
    others = evidence.softened(spread.covariance * np.outer(varying, varying))
    scale = evidence.amplitudes * ~varying
    first, second = np.triu_indices(evidence.parts)
    products = scale[first] * scale[second] * np.where(first == second, 1.0, 2.0)
    return others.gradient @ scale, others.curvature @ products


def _influence(gradient: Array, curvature: Array, harmonics: Array) -> Array:
    """Return what each image adds to the coefficients of a relative amplitude on the sphere: (N, 9)."""
    normal = (harmonics.T * curvature) @ harmonics
    # Views nobody has leave coefficients undetermined: these stay at 0.
    ridge = 1e-3 * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.asarray((harmonics * gradient[:, None]) @ np.linalg.inv(normal + ridge))


def _smooth(influence: Array, here: Array, harmonics: Array) -> tuple[Array, Array, float, float]:
    """Relative change at directions, its error, root mean square over the views, and its chance."""
    coefficients, covariance = influence.sum(axis=0), influence.T @ influence
    some, its = coefficients[1:], covariance[1:, 1:]
    statistic = float(some @ np.linalg.pinv(its) @ some)
    # The mean over all particles is known: what is left is how views differ from it.
    centred = harmonics[:, 1:] - harmonics[:, 1:].mean(axis=0)
    square = centred.T @ centred / len(centred)
    variance = float(some @ square @ some - np.trace(square @ its))
    change, error = here @ coefficients, np.sqrt(np.einsum("vi,ij,vj->v", here, covariance, here))
    return change, error, float(np.sqrt(max(variance, 0.0))), float(chi2.sf(statistic, len(some)))


def _mean(values: Array, cell: npt.NDArray[np.int64]) -> Array:
    """Mean of the values (N,) in each cell; nan in empty ones."""
    sums, numbers = np.bincount(cell, values, minlength=_CELLS), np.bincount(cell, minlength=_CELLS)
    return np.asarray(np.divide(sums, numbers, out=np.full(_CELLS, np.nan), where=numbers > 0))


def _hiding(evidence: Evidence, cell: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each cell and part, the other part whose projection is most like it, (V, C)."""
    out = np.zeros((_CELLS, evidence.parts), dtype=np.int64)
    for number in range(_CELLS):
        rows = np.flatnonzero(cell == number)
        matrix = (evidence.matrices(rows) if len(rows) else np.eye(evidence.parts)[None]).sum(axis=0)
        scale = np.sqrt(np.maximum(np.diag(matrix), 1e-30))
        alike = np.abs(matrix / np.outer(scale, scale)) - 2 * np.eye(evidence.parts)
        out[number] = alike.argmax(axis=1)
    return out


def view_notices(views: Views, names: tuple[str, ...]) -> tuple[Notice, ...]:
    """One warning that names the parts whose occupancy depends on the view."""
    found = [f"{names[i]} (by {views.deviation[i]:.2f})" for i in np.flatnonzero(views.dependent)]
    if not found:
        return ()
    text = (
        f"occupancy depends on the direction of view: {', '.join(found)}; damaged at an interface, moved in "
        "some views, or wrong poses there? See views.tsv"
    )
    return (Notice("views", text),)
