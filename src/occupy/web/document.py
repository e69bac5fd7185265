"""One map in the viewer: its estimate, what was read from a result folder, and what the user makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from occupy import masks
from occupy.errors import InputError
from occupy.inputs import InputFiles, Inputs
from occupy.modify import modifications, modified_maps, modified_values
from occupy.pipeline import Estimate
from occupy.report.chimerax import contour_level, tile_sphere
from occupy.report.figures import value_spans
from occupy.report.record import number_lines, numbers_of
from occupy.report.results import WHAT
from occupy.report.slices import lowest_shown_scale
from occupy.report.surfaces import clear_level, spread_of
from occupy.resolve import ResolvedSettings, resolve
from occupy.result import LoadedResult
from occupy.settings import Settings
from occupy.volume import LazyMap, Volume
from occupy.web.scene import Look, Scene
from occupy.web.shelf import ArrayCache, WatchedFiles, read_watched

if TYPE_CHECKING:
    from occupy.regions.joint import JointRegions

Array = npt.NDArray[np.float32]

LOOKS = {
    "scale": Look("Local scale", "scale", 0.0, 1.0),
    "confidence": Look("Confidence", "confidence"),
    "occupancy": Look("Occupancy", "scale", 0.0, 1.0),
    "uncertainty": Look("Uncertainty of the occupancy", "uncertainty", 0.0, 0.5),
    "solvent_mask": Look("Solvent definition", "mask"),
    "subtraction_mask": Look("Subtraction mask", "mask"),
}
_POINTS = 400
_TABLE = 256


class ReadMap(Scene):
    """A map that has been read, before anything is known of it: the first picture.

    Parameters
    ----------
    number : int
        Identifier on the page; the `MapDocument` that takes its place has the same.
    files : InputFiles
        What was opened.
    volume : Volume
        The map.
    asked : Settings
        What the user said.
    watched : WatchedFiles
        What the files were when they were read.
    cache : ArrayCache
        For layers that can be read again.
    level : float, optional
        Contour level to begin with.
    """

    def __init__(
        self,
        number: int,
        files: InputFiles,
        volume: Volume,
        asked: Settings,
        watched: WatchedFiles,
        cache: ArrayCache,
        *,
        level: float | None = None,
    ) -> None:
        super().__init__(number, files.map.name, volume, watched, cache)
        self.files, self.path, self.asked, self.given_level = files, files.map, asked, level
        self.revision = 0

    @property
    def memory(self) -> int:
        """Bytes of the arrays that stay while it is open."""
        return self.grid.data.nbytes

    @property
    def looks(self) -> dict[str, Look]:
        """Name → look of every layer that can be shown."""
        return {"input": Look("Input map", "grey", *self.window, "map units")}

    def layer(self, name: str) -> Array:
        """Return a layer in (z, y, x) order."""
        if name != "input":
            raise InputError(f"there is no layer {name!r}")
        return self.grid.standard()

    @cached_property
    def level(self) -> float:
        """Contour level to begin with, in map units."""
        return clear_level(*spread_of(self.grid.data)) if self.given_level is None else self.given_level

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the whole map, the σ of contour levels."""
        return float(self._thinned().std(dtype=np.float64))

    @cached_property
    def window(self) -> tuple[float, float]:
        """Values of black and white."""
        low, high = (float(v) for v in np.quantile(self._thinned(), [0.002, 0.9995]))
        return (low, high) if high > low else (self.span[0], max(self.span[1], self.span[0] + 1e-6))

    @cached_property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return float(self.grid.data.min()), float(self.grid.data.max())

    def _thinned(self) -> Array:
        step = max(1, round((self.grid.data.size / 5e5) ** (1 / 3)))
        return self.grid.data[::step, ::step, ::step]

    def about(self) -> dict[str, Any]:
        """Return what can be said before the estimate."""
        return {
            "kind": "read",
            "path": str(self.path),
            "folder": None,
            "level": self.level,
            "range": list(self.span),
            "sigma": self.deviation,
            "shown_from": 0.0,
            "dust": self.resolved(self.asked).lowpass ** 3,
            "asked": {k: v for k, v in vars(self.asked).items() if v != getattr(Settings(), k)},
            "inputs": {"neighbours": self.files.neighbours},
        }

    def resolved(self, settings: Settings) -> ResolvedSettings:
        """Return what settings mean for this map."""
        return resolve(settings, self.grid.shape, self.grid.voxel_size)


class MapDocument(ReadMap):
    """A map and what is known of it.

    Parameters
    ----------
    number : int
        Identifier on the page.
    files : InputFiles
        What was opened.
    est : Estimate
        What was found.
    asked : Settings
        What the user said.
    watched : WatchedFiles
        What the files were when they were read.
    cache : ArrayCache
        For layers that are read from a result folder.
    result : LoadedResult, optional
        The result folder it was opened from; its maps are used in place of what ``est`` would compute.
    level : float, optional
        Contour level to begin with.
    """

    def __init__(
        self,
        number: int,
        files: InputFiles,
        est: Estimate,
        asked: Settings,
        watched: WatchedFiles,
        cache: ArrayCache,
        *,
        result: LoadedResult | None = None,
        level: float | None = None,
    ) -> None:
        super().__init__(number, files, est.volume, asked, watched, cache, level=level)
        self.est = est
        self.folder = None if result is None else result.path.parent
        self._masks: dict[str, Array] = {}
        self._residual_reach = 0.0
        self._outputs: dict[str, Path] = {}
        self._show(result)

    def open_inputs(self, settings: Settings) -> Inputs:
        """Read again what the map was opened with; ClosedError where a file is not what it was."""
        return self.files.open(settings, self.watched.read)

    def take(self, est: Estimate, files: InputFiles, asked: Settings) -> None:
        """Replace the estimate by a new one; masks and maps made from the old one go."""
        with self.lock:
            self.est, self.files, self.asked = est, files, asked
            self._masks = {}
            self._show(None)

    def before_writing(self, folder: Path) -> None:
        """Let go of the maps of the folder it was opened from, which are about to be replaced."""
        if folder == self.folder:
            with self.lock:
                self._show(None)

    def written(self, result: LoadedResult, asked: Settings) -> None:
        """Show what was written into the folder it was opened from."""
        if result.path.parent == self.folder:
            with self.lock:
                self.asked = asked
                self._show(result)

    def _show(self, result: LoadedResult | None) -> None:
        """Show the maps of a result folder, or what the estimate computes."""
        self.result = result
        self.watched.forget(self._outputs.values())
        self._outputs = {}
        if result is not None:
            files, maps = result.files[result.names[0]], result.maps[result.names[0]]
            shape = self.est.volume.shape
            self._outputs = {name: file for name, file in files.items() if maps[name].shape == shape}
        for path in self._outputs.values():
            # Also those that nobody has looked at: they must be of one run.
            self.watched.watch(path)
        self._preview: tuple[object, Array] | None = None
        self.cache.drop(lambda key: key[0] == self.id)
        for name in ("level", "deviation", "window"):
            self.__dict__.pop(name, None)
        self.revision += 1

    @property
    def memory(self) -> int:
        """Bytes of the arrays that stay while it is open."""
        est = self.est
        whole = [est.volume.data, est.lowpassed, est.working_map]
        # Only what has been computed: asking for it would compute it.
        whole += [lazy.data for lazy in est.maps.values() if lazy.is_known]
        whole += [*self._masks.values(), *([] if self._preview is None else [self._preview[1]])]
        return sum({id(array): array.nbytes for array in whole}.values())

    def prepare(self) -> None:
        """Compute what the first picture needs."""
        for name in ("scale", "confidence", *self._answer):
            self._array(name)
        _ = self.level, self.deviation, self.window

    @property
    def _answer(self) -> tuple[str, ...]:
        """The occupancy where there is one, as a layer: not of folders in which the scale is the answer."""
        named = self.est.maps if self.result is None else self._outputs
        return ("occupancy",) if "occupancy" in named else ()

    @property
    def looks(self) -> dict[str, Look]:
        """Name → look of every layer that can be shown."""
        low, high = self.window
        grey = Look("Input map", "grey", low, high, "map units")
        out = {"input": grey, "scale": LOOKS["scale"], "confidence": LOOKS["confidence"]}
        for name in (*self._answer, *self._outputs, *self._masks):
            if name not in out:
                out[name] = LOOKS.get(name, replace(grey, title=WHAT.get(name, name).capitalize()))
        out["lowpass"] = replace(grey, title="Low-passed input")
        if "residual" in out:
            reach = self._residual_reach
            out["residual"] = Look("Residual of the joint fit", "difference", -reach, reach, "map units")
        return out

    def _carried(self, source: str, name: str) -> Array:
        """Return a layer as it is painted; the occupancy is that of the carried scale."""
        calibration = self.est.calibration
        if name != "occupancy" or calibration is None:
            return super()._carried(source, name)
        scale, key = super()._carried(source, "scale"), (self.id, "beneath", source, name, self.revision)
        return self.cache.get(key, lambda: calibration.occupancy_of(scale))

    def _array(self, name: str) -> Array:
        """Return a layer in the order of the file's axes."""
        with self.lock:
            if name in self._masks:
                return self._masks[name]
            if name in self._outputs:
                path = self._outputs[name]
                return self.cache.get((self.id, name), lambda: self._read(path))
            if name == "input":
                return self.est.volume.data
            if name in ("scale", "confidence", *self._answer):
                return self.est.maps[name].data
            if name == "lowpass":
                low = self.est.maps[name]
                return self.cache.get((self.id, name), lambda: low.planes(0, low.shape[0]))
            raise InputError(f"there is no layer {name!r}")

    def _read(self, path: Path) -> Array:
        assert self.result is not None
        return read_watched(path, self.watched, self.result).data

    def layer(self, name: str) -> Array:
        """Return a layer in (z, y, x) order."""
        return self._turned(self._array(name))

    def _turned(self, data: Array) -> Array:
        return self.grid.standard() if data is self.grid.data else self.grid.with_data(data).standard()

    @cached_property
    def level(self) -> float:
        """Contour level to begin with, in map units."""
        return contour_level(self.est) if self.given_level is None else self.given_level

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return self.est.facts.low, self.est.facts.high

    def about(self) -> dict[str, Any]:
        """Return settings, numbers, notices and graphs."""
        est = self.est
        numbers = self.result.numbers if self.result else numbers_of(est, est.variability_limit)
        centre, radius = tile_sphere(est, est.full_scale.largest)
        return {
            **super().about(),
            "kind": "map",
            "folder": str(self.folder) if self.folder else None,
            "shown_from": lowest_shown_scale(est),
            "settings": est.settings.as_dict(),
            "numbers": numbers,
            "lines": number_lines(numbers),
            "notices": [vars(n) | {"grave": n.grave} for n in est.notices],
            "bad_fit": est.solvent_fit_is_bad,
            "tile": {"centre": [float(c) for c in centre], "radius": radius},
            "graph": self.graph(),
            "made": list(self._masks),
            "usual_content": masks.usual_content(
                est.lowest_confident_scale, recalibrated=est.settings.recalibrate
            ),
            "inputs": self._about_inputs(),
        }

    def _about_inputs(self) -> dict[str, Any]:
        """Return what was read with the map, and whether half-maps lie beside it."""
        anyhow = replace(self.files, neighbours=True)
        read = self.files.by_role(self.asked)
        return {
            "files": {role: path.name for role, path in read.items() if role != "map"},
            "neighbours": self.files.neighbours,
            "beside": anyhow.beside(Settings()) is not None,
        }

    def graph(self) -> dict[str, Any]:
        """Return histogram, solvent fit and confidence: around the peak, and up to full scale."""
        est, region = self.est, self.est.solvent.region
        out = {}
        for name, span in zip(("peak", "full"), value_spans(est), strict=True):
            x = np.linspace(*span, _POINTS)
            at = np.interp(x, region.centres, region.density, left=0, right=0)
            with np.errstate(under="ignore"):
                fit = est.solvent.density(x)
            out[name] = {
                "value": x.tolist(),
                "density": at.tolist(),
                "fit": fit.tolist(),
                "confidence": est.curve(x.astype(np.float32)).tolist(),
            }
        floor = 0.25 / (max(1, int(region.counts.sum())) * region.width)
        marks = {"mean": est.solvent.mean, "lowest": est.curve.crossing(0.5), "full": est.full_scale.value}
        return {**out, "floor": floor, "top": float(max(region.density.max(), est.solvent.height)), **marks}

    def modification(self, settings: Settings) -> dict[str, Any]:
        """Return what one modification does, as factors of the map against scale.

        The factor of a voxel of scale S and confidence c lies between that for confidence 0 and that for 1,
        in proportion to c. (What attenuation puts in the place of what it takes away is not in it.)
        """
        resolved = self.resolved(settings)
        product = _the_modification(resolved)
        scale = np.linspace(0, 1, _TABLE, dtype=np.float32)
        if product is None:
            one = np.ones(_TABLE)
            return {"product": None, "doubtful": one.tolist(), "certain": one.tolist()}
        ones, change = np.ones_like(scale), modifications(resolved)[product]
        factors = {
            name: modified_values(change, resolved, (0.0, np.inf), ones, scale, confidence).copy()
            for name, confidence in (("doubtful", np.zeros_like(scale)), ("certain", ones))
        }
        return {"product": product, **{name: factor.tolist() for name, factor in factors.items()}}

    def preview(self, settings: Settings) -> Array:
        """Return the whole modified map in (z, y, x) order."""
        return self._turned(self.preview_in_file_order(settings))

    def preview_in_file_order(self, settings: Settings) -> Array:
        """Return the whole modified map, clipped and finished as it would be written."""
        resolved = self.resolved(settings)
        key = (resolved, self.revision)
        with self.lock:
            if self._preview is None or self._preview[0] != key:
                self._preview = (key, self._modified(resolved))
            return self._preview[1]

    def _modified(self, resolved: ResolvedSettings) -> Array:
        product = _the_modification(resolved)
        volume, facts = self.est.volume, self.est.facts
        if product is None:
            return volume.data
        scale, confidence = (
            LazyMap.on(volume, whole=partial(self._array, name)) for name in ("scale", "confidence")
        )
        made = modified_maps(
            volume,
            scale,
            confidence,
            resolved,
            span=(facts.low, facts.high),
            solvent_mean=self.est.solvent.mean,
        )
        return made[product].data

    def make_mask(self, kind: str, options: Mapping[str, Any]) -> str:
        """Make a mask and keep it as a layer; return one line about it."""
        with self.lock:
            if kind == "solvent":
                mask, about = self._solvent_definition(options)
            elif kind == "subtraction":
                mask, about = self._subtraction(options)
            else:
                raise InputError(f"there is no mask {kind!r}; choose solvent or subtraction")
            self._masks[f"{kind}_mask"] = mask
            self.revision += 1
        return f"{about}; {float(np.mean(mask > 0.5)):.1%} of the box is above ½"

    def _solvent_definition(self, options: Mapping[str, Any]) -> tuple[Array, str]:
        said = _numbers_in(options, "threshold", "weak", "close", "smallest", "extend", "soft_edge")
        if "threshold" not in said:
            raise InputError("give a threshold, a scale from 0 to below 1")
        mask = masks.solvent_definition(self._array("scale"), voxel_size=self.est.volume.voxel_size, **said)
        return mask, f"content: scale above {said['threshold']:.3g}"

    def _subtraction(self, options: Mapping[str, Any]) -> tuple[Array, str]:
        said = _numbers_in(options, "attenuate", "sigmoid", "pivot", "soft_edge")
        edge = said.pop("soft_edge", 0.0)
        if edge < 0:
            raise InputError(f"soft edge must not be negative, not {edge}")
        mask = masks.subtraction_mask(self._array("scale"), **said)
        if edge > 0:
            mask = masks.smooth(mask, self.est.volume.voxel_size, edge)
        return mask, "1 is kept and 0 subtracted (RELION's convention)"

    def keep_residual(self, fit: JointRegions | None) -> None:
        """Keep as a layer what the joint fit of a model leaves over, or forget what an earlier one did."""
        with self.lock:
            self.revision += self._masks.pop("residual", None) is not None or fit is not None
            if fit is not None:
                whole, lattice = np.zeros(self.shape, dtype=np.float32), fit.fit.lattice
                box = tuple(slice(a, a + n) for a, n in zip(lattice.start, lattice.shape, strict=True))
                whole[box] = fit.fit.residual
                self._residual_reach = 4 * float(whole[box].std())
                # Back into the order of the file's axes: of z, y, x, the last is axis 1.
                order = [3 - axis for axis in reversed(self.grid.frame.axes)]
                self._masks["residual"] = np.ascontiguousarray(whole.transpose(order))

    def as_volume(self, name: str) -> Volume:
        """Return a layer as a map with the input's frame."""
        return self.est.volume.with_data(self._array(name))

    def with_modification(self, settings: Settings) -> tuple[Estimate, Settings]:
        """Return estimate and settings as they are when this modification is asked for besides."""
        names = ("amplify", "attenuate", "sigmoid", "pivot", "exclude_solvent", "use_confidence",
                 "scale_limit", "lowpass_output", "match_histogram", "seed")  # fmt: skip
        changed: dict[str, Any] = {name: getattr(settings, name) for name in names}
        return (
            replace(self.est, settings=replace(self.est.settings, **changed)),
            replace(self.asked, **changed),
        )


def _the_modification(resolved: ResolvedSettings) -> str | None:
    """Return the one modified map these settings ask for, or None."""
    wanted = list(modifications(resolved))
    if len(wanted) > 1:
        raise InputError("show one modification at a time: amplify, attenuate or sigmoid")
    return wanted[0] if wanted else None


def _numbers_in(options: Mapping[str, Any], *names: str) -> dict[str, float]:
    """Return those of the named options that were given, as numbers."""
    out = {}
    for name, value in options.items():
        if name not in names:
            raise InputError(f"there is no option {name!r} here")
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise InputError(f"{name.replace('_', ' ')} must be a number, not {value!r}")
        out[name] = float(value)
    return out
