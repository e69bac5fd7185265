"""Find parts that come and go together, from the occupancies alone.

Voxels whose occupancy differs between classes by more than noise are grouped by how it differs: two voxels
belong together where their occupancies rise and fall alike over the classes. Edges of a part, where density
is mixed with its neighbours', rise and fall with it, if less; so the shape of the profile counts, not its
size.

Then what a whole set shows (composite, mean occupancy, variability), and what regions read in its classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, label

from occupy import tuning
from occupy.ensemble.execution import Execution
from occupy.ensemble.pipeline import ClassEstimate, SetEstimate, freeze
from occupy.numerics.parallel import one_blas_thread
from occupy.numerics.smoothing import scipy_smoothed
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable, joined, read_regions
from occupy.settings import short_repr
from occupy.statistics.context import Neighbourhood

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Component:
    """A part that comes and goes as one.

    Attributes
    ----------
    name : str
        ``component01`` is the largest.
    mask : ndarray of bool, shape (z, y, x)
        On the content box of the working grid.
    volume : float
        Å³.
    """

    name: str
    mask: npt.NDArray[np.bool_]
    volume: float

    __repr__ = short_repr

    def __post_init__(self) -> None:
        freeze(self)


def varying(est: SetEstimate) -> npt.NDArray[np.bool_]:
    """Return the voxels of the content that differ between classes by more than noise would anywhere.

    The scatter of standardised differences must exceed what about one of as many independent places without
    any difference would reach.
    """
    cell = float(np.prod(est.scaled.voxels(est.scaled.resolution)))
    found: npt.NDArray[np.bool_] = est.content & (est.scatter > est.null.threshold(est.content.sum() / cell))
    return found


@one_blas_thread()
def find_components(est: SetEstimate) -> tuple[Component, ...]:
    """Group the varying voxels of a set into parts.

    Parameters
    ----------
    est : SetEstimate

    Returns
    -------
    tuple of Component
        The largest first; empty where classes differ by no more than noise.
    """
    places = varying(est)
    voxel = float(np.prod(est.scaled.voxel_size))
    least = max(tuning.COMPONENTS.least_volume, est.scaled.resolution**3) / voxel
    if places.sum() < least:
        return ()
    profiles = _profiles(est, places)
    spread = profiles.std(axis=1)
    where = np.flatnonzero(places)[spread > tuning.COMPONENTS.least_difference]
    profiles = profiles[spread > tuning.COMPONENTS.least_difference]
    if len(where) < least:
        return ()
    groups = _grouped(profiles)
    masks = []
    for group in range(groups.max() + 1):
        member = np.zeros(places.size, dtype=bool)
        member[where[groups == group]] = True
        masks += _pieces(member.reshape(places.shape), least)
    masks.sort(key=lambda mask: -int(mask.sum()))
    return tuple(
        Component(f"component{i:02d}", mask, float(mask.sum()) * voxel)
        for i, mask in enumerate(masks[: tuning.COMPONENTS.most], start=1)
    )


def _profiles(est: SetEstimate, places: npt.NDArray[np.bool_], most: int = 96) -> Array:
    """Return the occupancies of each place in each class (evenly chosen ones where there are many)."""
    count = len(est.names)
    chosen = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
    around = Neighbourhood.of(est.power, est.scaled.voxels(tuning.COMPONENTS.profile_window), scipy_smoothed)
    out = np.empty((int(places.sum()), len(chosen)), dtype=np.float32)
    for column, k in enumerate(chosen):
        out[:, column] = around.mean(est.of_class(int(k)).occupancy)[places]
    return out


def _directions(profiles: Array) -> Array:
    """Return profiles with mean 0 and length 1 over the classes."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6))


def _grouped(profiles: Array, most: int = 2500) -> npt.NDArray[np.intp]:
    """Return the group of each profile, by average linkage of about ``most``; the others join the nearest."""
    from scipy.cluster.hierarchy import fcluster, linkage

    directions = _directions(profiles)
    if len(directions) < 2:
        return np.zeros(len(directions), dtype=np.intp)
    sample = directions[:: max(1, len(directions) // most)]
    tree = linkage(sample, method="average", metric="correlation" if sample.shape[1] > 2 else "cosine")
    of_sample = fcluster(tree, 1 - tuning.COMPONENTS.alike, criterion="distance")
    centres = np.array([sample[of_sample == g].mean(axis=0) for g in range(1, of_sample.max() + 1)])
    return np.asarray((directions @ _directions(centres).T).argmax(axis=1))


def _pieces(mask: npt.NDArray[np.bool_], least: float) -> list[npt.NDArray[np.bool_]]:
    """Return the connected pieces that are large enough."""
    pieces, count = label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.reshape(-1), minlength=count + 1)
    return [pieces == i for i in range(1, count + 1) if sizes[i] >= least]


def soft_mask(est: SetEstimate, mask: npt.NDArray[np.bool_]) -> Array:
    """Return a mask that is 1 inside and falls to 0 over 6 Å outside, as a raised cosine."""
    away = distance_transform_edt(~mask, sampling=est.scaled.voxel_size)
    x = np.clip(away / tuning.COMPONENTS.soft_edge, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * x), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Summary:
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
        freeze(self)


def summary_terms(est: SetEstimate, k: int, found: ClassEstimate) -> tuple[Array, ...]:
    """Return what a class adds to the four sums that `summary_of` is made from."""
    w = np.float32(est.weights[k])
    # Least squares for the shared pattern P in m_k = r_k P.
    ratio = 1 + (est.ratios[k] - 1) * est.keep
    occupancy = w * found.occupancy
    return w * ratio * est.scaled.maps[k], w * ratio**2, occupancy, occupancy * found.occupancy


def summary_of(est: SetEstimate, sums: Sequence[Array], differing: npt.NDArray[np.bool_]) -> _Summary:
    """Make a summary from the sums over all classes of what `summary_terms` returns."""
    pattern, norm, mean, square = sums
    spread = np.sqrt(np.maximum(square - mean**2, 0)) * differing
    composite = est.best * pattern / (norm + np.float32(1e-6)) * np.float32(est.unit)
    return _Summary(composite, mean, spread)


def component_regions(est: SetEstimate, components: Sequence[Component]) -> tuple[Region, ...]:
    """Return components as regions on the grid of the maps."""
    out = []
    for component in components:
        inside = est.on_grid(component.mask.astype(np.float32)).data > 0.5
        out.append(Region(component.name, "component", np.flatnonzero(inside), inside.shape))
    return tuple(out)


def read_class(
    est: SetEstimate, k: int, regions: Sequence[Region], occupancy: Array, uncertainty: Array
) -> OccupancyTable:
    """Return what regions read in class ``k``, given its maps on the grid of the input."""
    return read_regions(
        regions,
        {est.names[k]: (occupancy, uncertainty)},
        est.grid,
        resolution=est.scaled.resolution,
        common_error=True,
        weights=[float(est.weights[k])],
    )


def read_set(
    est: SetEstimate, regions: Sequence[Region], execution: Execution | None = None
) -> OccupancyTable:
    """Return what regions read in all classes.

    Parameters
    ----------
    est : SetEstimate
    regions : sequence of Region
        At least one, on the grid of the input.
    execution : Execution, optional
        Where the work runs and arrays are kept.
    """
    shared = (est, tuple(regions))
    return joined(list((execution or Execution()).each("regions", _read_one, shared, len(est.names))))


def _read_one(shared: tuple[SetEstimate, tuple[Region, ...]], k: int) -> OccupancyTable:
    est, regions = shared
    maps = est.maps_of_class(k)
    return read_class(est, k, regions, maps["occupancy"].data, maps["uncertainty"].data)
