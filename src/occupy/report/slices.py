"""Central slices of an estimate: what the pictures show of input, scale and confidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from occupy.pipeline import Estimate
from occupy.report.canvas import (
    confidence_colormap,
    new_figure,
    plain,
    scale_colormap,
    uncertainty_colormap,
)
from occupy.report.palette import SOLVENT
from occupy.report.surfaces import LEVEL
from occupy.scale import scale_stream
from occupy.volume import LazyMap, Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Array = npt.NDArray[np.float32]

# Scale below this is mostly noise and leakage, and is not drawn in slices.
LOWEST_SHOWN = 0.1


def file_axes(volume: Volume) -> tuple[int, int, int]:
    """Return along which axis of the data z, y and x run."""
    columns, rows, sections = volume.frame.axes
    along = {sections: 0, rows: 1, columns: 2}
    return along[3], along[2], along[1]


def central_slice(volume: Volume, data: Array, axis: int) -> Array:
    """Return the slice through the box centre across one axis of space.

    Parameters
    ----------
    volume : Volume
        Says how the file's axes lie in space.
    data : ndarray of float32, shape (sections, rows, columns)
        Values on the volume's grid.
    axis : {0, 1, 2}
        Across z, y or x; the slice's index is half the number of voxels, rounded down.

    Returns
    -------
    ndarray of float32, two-dimensional
        Of the two other axes the one first in z, y, x runs along rows, the other along columns: (y, x),
        (z, x), (z, y).
    """
    standard = volume.with_data(data).standard()
    return np.asarray(standard.take(standard.shape[axis] // 2, axis=axis))


def _scale_slice(est: Estimate, axis: int) -> Array:
    """Return the central slice of the local scale; see `central_slice`.

    Only a slab as thick as the footprint is dilated, so that no whole map is made for three slices.
    """
    if est.resampled or est.calibration is not None:
        return central_slice(est.volume, est.scale, axis)
    along = file_axes(est.volume)[axis]
    middle = est.volume.shape[along] // 2
    reach = est.settings.kernel_size[along] // 2
    first = max(0, middle - reach)
    band = [slice(None)] * 3
    band[along] = slice(first, middle + reach + 1)
    data = np.ascontiguousarray(est.working_map[tuple(band)])
    stream = scale_stream(data, est.settings, est.full_scale.value, 0, len(data), est.zero)
    slab = np.concatenate([part.copy() for _, _, part in stream])
    plane = slab.take([middle - first], axis=along)
    # As a view of full size, so that one function turns all slices.
    return central_slice(est.volume, np.broadcast_to(plane, est.volume.shape), axis)


def _smoothed_scale(est: Estimate, axis: int) -> Array:
    """Return the central slice of the local scale without the shape of the footprint.

    A maximum within a footprint draws discs and crosses around every peak; a Gaussian of a quarter of the
    footprint's width takes them away. For display only.
    """
    from scipy.ndimage import gaussian_filter

    order = [n for i, n in enumerate(file_axes(est.volume)) if i != axis]
    # On the map's grid, which may be finer than the one the footprint is given on.
    width = [est.settings.kernel_size[n] * est.volume.shape[n] / est.settings.shape[n] / 4 for n in order]
    return np.asarray(gaussian_filter(_scale_slice(est, axis), width, mode="nearest"))


def _lowpassed_slice(est: Estimate, axis: int) -> Array:
    """Return the central slice of the low-passed map; see `central_slice`."""
    data = est.maps["lowpass"].data if est.resampled else est.lowpassed
    return central_slice(est.volume, data, axis)


def shown_scale(est: Estimate, axis: int) -> np.ma.MaskedArray[Any, Any]:
    """Return the central slice of the local scale as it is drawn, masked where nothing is to be read.

    Scale reaches beyond matter by half a footprint, where it falls to 0 also around what is complete. It is
    shown from `lowest_shown_scale` on, and where the low-passed map has the share of local full scale at
    which surfaces are contoured; also in gaps of matter narrower than the low-pass resolution that read
    nearly as it does, and not in islands smaller than that. About 600 pixels wide, so that edges are smooth
    and thin parts stay.
    """
    from scipy.ndimage import distance_transform_edt, label

    scale, low = (_finer(part) for part in (_smoothed_scale(est, axis), _lowpassed_slice(est, axis)))
    above = scale >= lowest_shown_scale(est)
    matter = above & (low >= LEVEL * est.full_scale.value * scale)
    order = [i for i in file_axes(est.volume) if i != file_axes(est.volume)[axis]]
    pixel = [
        est.volume.shape[i] * est.volume.voxel_size[i] / n for i, n in zip(order, scale.shape, strict=True)
    ]
    width = est.settings.lowpass
    islands, _ = label(matter)
    matter &= (np.bincount(islands.ravel()) * np.prod(pixel) >= width**2)[islands]
    if matter.any():
        grown = distance_transform_edt(~matter, pixel) <= width / 2
        gaps = (distance_transform_edt(grown, pixel) > width / 2) & above & ~matter
        # What reads much less than the matter around it is a cavity, not a part that is missing.
        y, x = distance_transform_edt(~matter, pixel, return_distances=False, return_indices=True)
        matter |= gaps & (scale >= 0.8 * scale[y, x])
    return np.ma.masked_array(scale, ~matter)


def shown_occupancy(est: Estimate, axis: int) -> np.ma.MaskedArray[Any, Any]:
    """Return the central slice of the occupancy, masked as `shown_scale`; the scale where none is stated."""
    scale = shown_scale(est, axis)
    if est.calibration is None:
        return scale
    return np.ma.masked_array(est.calibration.occupancy_of(scale.data), scale.mask)


def _finer(image: Array) -> Array:
    """Return an image interpolated to about 600 pixels."""
    from scipy.ndimage import zoom

    factor = max(1, round(600 / max(image.shape)))
    return np.asarray(zoom(image, factor, order=1, mode="nearest", grid_mode=True))


def confidence_slice(est: Estimate, axis: int) -> Array:
    """Return the central slice of the confidence; see `central_slice`."""
    if est.resampled:
        return central_slice(est.volume, est.confidence, axis)
    return est.curve(central_slice(est.volume, est.lowpassed, axis))


def lowest_shown_scale(est: Estimate) -> float:
    """Return the scale below which a slice is grey: 0.1, or the lowest confident scale."""
    # A recalibrated scale has its zero there already; where the fit is bad, it says nothing.
    doubtful = est.settings.recalibrate or est.solvent_fit_is_bad
    return LOWEST_SHOWN if doubtful else max(LOWEST_SHOWN, est.lowest_confident_scale)


# What is drawn, and the value at the upper end of its colours.
SHOWN = {"scale": 1.0, "confidence": 1.0, "occupancy": 1.0, "relative": 1.0, "uncertainty": 0.5}


def lazy_slices(maps: Mapping[str, Mapping[str, LazyMap]]) -> Figure:
    """Draw the middle section of each map's scale and confidence, or occupancy and uncertainty.

    Parameters
    ----------
    maps : mapping
        Name → what there is of that map → lazy map. The first eight are drawn, one row each.
    """
    names = list(maps)[:8]
    columns = [what for what in SHOWN if what in maps[names[0]]]
    figure = new_figure(2.6 * len(columns), 2.6 * len(names) + 0.4, dpi=100, layout="constrained")
    grid = figure.subplots(len(names), len(columns), squeeze=False)
    for row, name in zip(grid, names, strict=True):
        for axes, what in zip(row, columns, strict=True):
            middle = maps[name][what].shape[0] // 2
            image: Any = maps[name][what].planes(middle, middle + 1)[0]
            colours: Any = uncertainty_colormap() if what == "uncertainty" else confidence_colormap()
            if what in ("scale", "occupancy", "relative"):
                image = np.ma.masked_less(image, LOWEST_SHOWN)
                colours = scale_colormap().with_extremes(bad=SOLVENT)
            drawn = axes.imshow(image, origin="lower", vmin=0, vmax=SHOWN[what], cmap=colours)
            axes.set_axis_off()
            axes.set_title(plain(name), size=8)
            if name == names[-1]:
                figure.colorbar(drawn, ax=axes, orientation="horizontal", label=what, shrink=0.8)
    return figure
