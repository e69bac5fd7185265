"""What regions read in the classes of a set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from occupy.ensemble.components import Component
from occupy.ensemble.passes import Means
from occupy.ensemble.pipeline import SetEstimate
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable, joined, read_regions

Array = npt.NDArray[np.float32]


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
        resolution=est.ground.resolution,
        common_error=True,
        weights=[float(est.weights[k])],
    )


def read_set(est: SetEstimate, regions: Sequence[Region], means: Means | None = None) -> OccupancyTable:
    """Return what regions read in all classes.

    Parameters
    ----------
    est : SetEstimate
    regions : sequence of Region
        At least one, on the grid of the input.
    means : Means, optional
        With what to work.
    """
    shared = (est, tuple(regions))
    return joined(list((means or Means()).each("regions", _read_one, shared, len(est.names))))


def _read_one(shared: tuple[SetEstimate, tuple[Region, ...]], k: int) -> OccupancyTable:
    est, regions = shared
    maps = est.maps_of_class(k)
    return read_class(est, k, regions, maps["occupancy"].data, maps["uncertainty"].data)
