"""What a whole set shows: composite, mean occupancy, variability; and what regions read in its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.ensemble.components import Component
from occupy.ensemble.execution import Execution
from occupy.ensemble.pipeline import ClassEstimate, SetEstimate
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable, joined, read_regions

Array = npt.NDArray[np.float32]


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
        for array in (self.composite, self.mean_occupancy, self.variability):
            array.flags.writeable = False


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
