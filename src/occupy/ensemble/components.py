"""Find parts that come and go together, from the occupancies alone.

Voxels whose occupancy differs between classes by more than noise are grouped by how it differs: two voxels
belong together where their occupancies rise and fall alike over the classes. Edges of a part, where density
is mixed with its neighbours', rise and fall with it, if less; so the shape of the profile counts, not its
size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, label

from occupy import tuning
from occupy.ensemble.pipeline import SetEstimate
from occupy.numerics.parallel import one_blas_thread
from occupy.numerics.smoothing import scipy_smoothed
from occupy.options import short_repr
from occupy.statistics.leakage import Neighbourhood

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
        self.mask.flags.writeable = False


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
