"""What was found of one map: numbers, and the maps that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy import modify
from occupy.bfactor import BFactors
from occupy.calibration import Calibration
from occupy.checks import MapFacts
from occupy.confidence import ConfidenceCurve, SolventModel, fdr_threshold
from occupy.errors import Notice
from occupy.modify import modified_maps
from occupy.resolve import ResolvedSettings
from occupy.scale import FullScale, TargetOccupancy, scale_stream
from occupy.settings import short_repr
from occupy.volume import (
    Grid,
    LazyMap,
    Volume,
    answer_in,
    compute_planes,
    frame_of_box,
    in_stretches,
    on_finer_grid,
)

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Estimate:
    """Everything found out about one map.

    Attributes
    ----------
    volume : Volume
        The input.
    settings : ResolvedSettings
        Settings as they held.
    facts : MapFacts
        Range and flatness of the input.
    lowpassed : ndarray of float32
        Low-passed map on the working grid.
    full_scale : FullScale
        What counts as fully present.
    solvent : SolventModel
        Fitted solvent.
    curve : ConfidenceCurve
        Confidence against low-passed value.
    lowest_confident_scale : float
        Scale at which confidence crosses one half (L).
    target : TargetOccupancy or None
        Occupancy of the target mask.
    notices : tuple of Notice
        What makes the result doubtful.
    working_map : ndarray of float32
        What the scale is taken of: the low-passed map, or in resolution mode the map itself, on the
        working grid.
    b_factors : BFactors or None
        Relative B-factors, where they were asked for and could be found.
    featureless : ndarray of float32 or None
        1 where content has no detail, as lipid and detergent; on the working grid, with B-factors.
    """

    volume: Volume
    settings: ResolvedSettings
    facts: MapFacts
    lowpassed: Array
    full_scale: FullScale
    solvent: SolventModel
    curve: ConfidenceCurve
    lowest_confident_scale: float
    target: TargetOccupancy | None
    notices: tuple[Notice, ...]
    working_map: Array
    b_factors: BFactors | None = None
    featureless: Array | None = None

    __repr__ = short_repr

    @property
    def zero(self) -> float:
        """Scale that recalibration makes zero; 0 without recalibration."""
        return self.lowest_confident_scale if self.settings.recalibrate else 0.0

    @property
    def calibration(self) -> Calibration | None:
        """Noise floor, full scale and uncertainty; None with the estimators that have none."""
        return self.full_scale.calibration

    @cached_property
    def maps(self) -> Mapping[str, LazyMap]:
        """Every map there is, by name, in the order in which they are written.

        ``scale``, ``confidence``, those modified as settings ask; ``occupancy``, ``uncertainty``,
        ``relative_bfactor``, ``relative_bfactor_error``, ``mask_featureless``, ``mask_fdr`` where they were
        asked for or can be stated; ``lowpass``.
        """
        plain = _plain_maps(self)
        scale, confidence = plain["scale"], plain["confidence"]
        first = {"scale": scale, "confidence": confidence}
        modified = modified_maps(
            self.volume,
            scale,
            confidence,
            self.settings,
            span=(self.facts.low, self.facts.high),
            solvent_mean=self.solvent.mean,
        )
        return first | modified | plain

    @cached_property
    def coarse_maps(self) -> Mapping[str, LazyMap]:
        """Scale, confidence, and where stated occupancy with its uncertainty, on the working grid."""
        return self._maps_on(self._readings)

    @property
    def scale(self) -> Array:
        """Local scale of the whole map in [0, 1], on the map's grid: measured, linear in the occupancy."""
        return self.maps["scale"].data

    @property
    def occupancy(self) -> Array:
        """Posterior mean of the occupancy, on the map's grid; the scale where the estimator states none."""
        return self.maps[answer_in(self.maps)].data

    @property
    def confidence(self) -> Array:
        """Confidence that each voxel is content, in [0, 1], on the map's grid."""
        return self.maps["confidence"].data

    @property
    def uncertainty(self) -> Array | None:
        """Standard error of the occupancy at each voxel, on the map's grid; None where none is stated."""
        return self.maps["uncertainty"].data if "uncertainty" in self.maps else None

    @cached_property
    def fdr_level(self) -> float | None:
        """Low-passed value above which the false-discovery rate asked for holds; None if none was."""
        return None if self.settings.fdr is None else fdr_threshold(self.solvent, self.settings.fdr)

    @property
    def resampled(self) -> bool:
        """Whether the working grid is coarser than the map's own."""
        return self.settings.shape != self.volume.shape

    @property
    def solvent_fit_is_bad(self) -> bool:
        """Whether confidence, and what is weighted by it, should not be trusted."""
        return any(notice.code == "solvent-fit" for notice in self.notices)

    @cached_property
    def _readings(self) -> LazyMap:
        """Local scale on the working grid, or of a calibration the readings it is made of."""
        stream = partial(
            scale_stream,
            self.working_map,
            self.settings,
            self.full_scale.value,
            zero=self.zero,
            calibration=self.calibration,
        )
        return _on_working_grid(self, stream=stream)

    def _maps_on(self, grid: Grid) -> dict[str, LazyMap]:
        """Return what `coarse_maps` has on a grid: all but confidence follows there from readings."""
        low, curve, calibration = self.lowpassed, self.curve, self.calibration
        confidence = _on_working_grid(self, lambda start, stop: curve(low[start:stop]))
        readings = on_finer_grid(in_stretches(self._readings), grid)
        found = {"scale": readings, "confidence": on_finer_grid(confidence, grid)}
        if calibration is not None:
            context, across, around = calibration.context, self.settings.shape[1:], []
            if context is not None:
                means = _on_working_grid(self, lambda a, b: context.around_planes(a, b, across))
                around.append(on_finer_grid(means, grid))
            # Neighbours are taken off here and not before readings are interpolated, as that step is bent.
            found["scale"] = _made_of(readings, calibration.scale_of, *around)
            found["occupancy"] = _made_of(found["scale"], calibration.occupancy_of)
            found["uncertainty"] = _made_of(found["occupancy"], calibration.uncertainty_of)
        return found

    @cached_property
    def variability_limit(self) -> float:
        """Mean of the map the scale is taken of where that is 1, relative to full scale.

        On the working grid; NaN where no voxel has full scale.
        """
        sums = np.empty((self.settings.shape[0], 2))

        def add(_: str, start: int, stop: int, scale: Array) -> None:
            sums[start:stop] = self.sums_at_full_scale(scale, start)

        compute_planes({"scale": self.coarse_maps["scale"]}, add)
        return self.mean_at_full_scale(sums)

    def sums_at_full_scale(self, scale: Array, start: int) -> npt.NDArray[np.float64]:
        """Count the voxels of full scale in each plane from ``start`` on, and sum the map there.

        Returns
        -------
        ndarray of float64, shape (planes, 2)
            By planes of the working grid, so that no sum depends on how planes were given to threads.
        """
        sums = np.empty((len(scale), 2))
        for out, plane, source in zip(sums, scale, self.working_map[start:], strict=False):
            full = plane >= 1.0
            out[:] = np.count_nonzero(full), source[full].sum(dtype=np.float64)
        return sums

    def mean_at_full_scale(self, sums: npt.NDArray[np.float64]) -> float:
        """Return the variability limit, given the counts and sums of all planes."""
        count, total = sums.sum(axis=0)
        return float(total / count / self.full_scale.value) if count else float("nan")

    def amplify(self, power: float, **options: Any) -> Volume:
        """Return the map amplified by its scale, weighted by its confidence; see `occupy.amplify`."""
        changed = modify.amplify(self.volume.data, self.scale, power, confidence=self.confidence, **options)
        return self.volume.with_data(np.clip(changed, self.facts.low, self.facts.high))


def _plain_maps(est: Estimate) -> dict[str, LazyMap]:
    """Return all maps of an estimate but the modified ones."""
    low, fields = est.lowpassed, est.b_factors
    lowpass = on_finer_grid(_on_working_grid(est, _planes_of(low)), est.volume)
    found = dict(est._maps_on(est.volume))
    if fields is not None:
        across = est.volume.shape[1:]
        for name, what in (("relative_bfactor", "values"), ("relative_bfactor_error", "errors")):
            planes = partial(fields.planes, what, shape=across)
            found[name] = LazyMap.on(est.volume, planes, threads=est.settings.threads)
    if est.featureless is not None:
        mask = on_finer_grid(_on_working_grid(est, _planes_of(est.featureless)), est.volume)
        found["mask_featureless"] = _made_of(mask, lambda planes: (planes >= 0.5).astype(np.float32))
    if est.fdr_level is not None:
        level = np.float32(est.fdr_level)
        found["mask_fdr"] = _made_of(lowpass, lambda planes: (planes > level).astype(np.float32))
    return found | {"lowpass": lowpass}


def _planes_of(data: Array) -> Callable[[int, int], Array]:
    return lambda start, stop: data[start:stop]


def _made_of(source: LazyMap, make: Callable[..., Array], *others: LazyMap) -> LazyMap:
    """Return a map whose every value is made of that of another, or of several."""
    sources = (source, *others)
    return LazyMap.on(source, lambda _, __, *planes: make(*planes), sources=sources, threads=source.threads)


def _on_working_grid(est: Estimate, make: Any = None, **how: Any) -> LazyMap:
    s, of = est.settings, est.volume
    grid = LazyMap(s.shape, s.voxel_size, of.frame, of.name, make, threads=s.threads, **how)
    if not est.resampled:
        return grid
    x, y, z = (float(k) for k in of.position((0, 0, 0)))
    return replace(grid, frame=frame_of_box(grid, (x, y, z)))
