"""Read maps at the backbone of a model's chains."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from occupy.simulation.checks import check_positive, check_structure
from occupy.simulation.models import marker_points

if TYPE_CHECKING:
    import gemmi


def chain_values(
    data: ArrayLike, voxel_size: float, structure: gemmi.Structure, radius: float = 3.0
) -> dict[str, float]:
    """Read a map at the backbone of each chain.

    Parameters
    ----------
    data : (nz, ny, nx) array
        Any map: density, local scale, confidence.
    voxel_size : float
        Å.
    structure : gemmi.Structure
        In the map's frame (see `Simulation.structure`).
    radius : float
        Å. A voxel counts where its centre is within the radius, ends included, of a CA or P atom, and
        always where it is an atom's nearest. Each counts once per chain.

    Returns
    -------
    dict of str to float
        Median over the voxels of each chain; chains without CA or P atoms are left out.

    Raises
    ------
    ValueError
        If the map is not three-dimensional, a number is not positive, or a chain lies outside the map.
    """
    check_structure(structure)
    values = np.asarray(data)
    if values.ndim != 3:
        raise ValueError(f"data must have three axes, not shape {values.shape}")
    check_positive(voxel_size=voxel_size, radius=radius)
    found = {}
    for name, points in marker_points(structure).items():
        near = voxels_near(points[:, ::-1] / voxel_size, radius / voxel_size, values.shape)
        if near.size == 0:
            raise ValueError(f"chain {name!r} lies outside the map of shape {values.shape} at {voxel_size} Å")
        found[name] = float(np.median(values.reshape(-1)[near]))
    return found


def voxels_near(points_zyx: NDArray[np.float64], radius: float, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return flat indices, sorted and unique, of the voxels within `radius` of a point or nearest to one.

    Parameters
    ----------
    points_zyx : (n, 3) array
        In voxels.
    radius : float
        In voxels.
    shape : (nz, ny, nx)
        Of the map; voxels outside it are left out.
    """
    reach = ceil(radius + 0.5)
    offsets = np.indices((2 * reach + 1,) * 3).reshape(3, -1).T - reach
    near = np.zeros(shape, dtype=bool)
    # One offset at a time: memory stays at a few numbers per point, however fine the map.
    nearest = np.rint(points_zyx).astype(np.intp)
    remainder = nearest - points_zyx
    for offset in offsets:
        # The nearest voxel always counts, so that no point is lost on a map coarser than the radius.
        within = (((remainder + offset) ** 2).sum(axis=1) <= radius**2) | (not offset.any())
        voxels = nearest[within] + offset
        voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
        near[tuple(voxels.T)] = True
    return np.flatnonzero(near)
