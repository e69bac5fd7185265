"""Inner products of parts and maps per shell: all that a joint fit needs to know of its voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.model.density import Lattice, Numbers


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


def products_of(
    parts: npt.NDArray[np.complex64], maps: npt.NDArray[np.complex64], lattice: Lattice
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
    return Products(
        np.array(of_parts),
        np.array(of_maps).transpose(1, 0, 2),
        np.array(power).T,
        lattice.count,
        lattice.frequency,
    )
