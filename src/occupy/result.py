"""A result, of one map or of a set: lazy maps, numbers and notices; to be kept, loaded, read and drawn."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy import pipeline
from occupy.errors import InputError, Notice
from occupy.estimated import Estimate
from occupy.inputs import Inputs, open_inputs, volume_of
from occupy.io.models import read_model
from occupy.io.mrc import map_stem, read_header, write_map
from occupy.model import AtomicModel
from occupy.regions.region import By, Region, regions_of_model
from occupy.regions.table import (
    Numbers,
    OccupancyTable,
    Profile,
    Reading,
    points_between,
    read_places,
    read_regions,
)
from occupy.report import record as records
from occupy.report.results import write_results
from occupy.report.set_record import NAME as SET_RECORD
from occupy.report.set_record import read_set_record
from occupy.settings import Settings, with_keywords
from occupy.volume import LazyMap, Progress, Volume, answer_in

Array = npt.NDArray[np.float32]
Maps = Mapping[str, LazyMap]


class Result(ABC):
    """What was found of one map, or of the maps of a set.

    A single map is a set of one: ``maps`` holds one name, whose maps are ``scale`` (the measurement),
    ``confidence``, ``occupancy`` with its ``uncertainty`` (the posterior mean), and those that follow from
    them. Of a set each name has ``occupancy``, ``relative`` and ``uncertainty``.
    """

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the maps, in order."""

    @property
    @abstractmethod
    def maps(self) -> Mapping[str, Maps]:
        """Name → what there is of that map → lazy map."""

    @property
    @abstractmethod
    def of_set(self) -> Maps:
        """Lazy maps of the whole set, components included; none of a single map."""

    @property
    @abstractmethod
    def settings(self) -> Any:
        """Settings as they held."""

    @property
    @abstractmethod
    def numbers(self) -> Mapping[str, Any]:
        """Every number that was found, with units in the names."""

    @property
    @abstractmethod
    def notices(self) -> tuple[Notice, ...]:
        """What makes the result doubtful."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return the record as plain values: inputs, settings, numbers, notices."""

    @abstractmethod
    def save(self, folder: str | Path) -> Path:
        """Write everything into a folder, as the command line does; return the folder."""

    def __repr__(self) -> str:
        name = repr(self.names[0]) if len(self.names) == 1 else f"{len(self.names)} maps"
        warned = f", {len(self.notices)} notices" if self.notices else ""
        return f"<{type(self).__name__} of {name}{warned}>"

    @property
    def _what(self) -> str:
        """What the maps say of every place: occupancy, or the scale of a map that has no other."""
        return answer_in(self.maps[self.names[0]])

    def at(self, x: float, y: float, z: float, name: str | None = None) -> Reading:
        """Return what a map reads at a place.

        Parameters
        ----------
        x, y, z : float
            Å, in the frame of the maps, as ChimeraX shows it.
        name : str, optional
            Which map of a set.

        Returns
        -------
        Reading
            ``value``: occupancy (the local scale where none is stated), interpolated linearly; ``error``:
            its standard error, NaN where none is stated. InputError for a place outside of the map.
        """
        value, error = self._read([(x, y, z)], name)
        return Reading(float(value[0]), float(error[0]))

    def profile(
        self,
        a: tuple[float, float, float],
        b: tuple[float, float, float],
        *,
        step: float | None = None,
        name: str | None = None,
    ) -> Profile:
        """Return what a map reads along the line from ``a`` to ``b``; see `at`.

        Parameters
        ----------
        a, b : tuple of float
            Ends: x, y, z in Å.
        step : float, optional
            Å, the longest between two places; by default half the smallest side of a voxel.
        """
        size = self.maps[self.names[0]][self._what].voxel_size
        points = points_between(a, b, min(size) / 2 if step is None else step)
        values, errors = self._read(points, name)
        return Profile(np.linalg.norm(points - points[0], axis=1), points, values, errors)

    def _read(self, points: npt.ArrayLike, name: str | None) -> tuple[Numbers, Numbers]:
        """Return values and standard errors at places of one map."""
        if name is None and len(self.names) > 1:
            raise InputError(f"name one of the maps, such as name={self.names[0]!r}")
        if name is not None and name not in self.names:
            raise InputError(f"no map {name!r} in this result; there are {', '.join(self.names[:8])}")
        return read_places(self.maps[name or self.names[0]], self._what, points)

    @property
    def _resolution(self) -> float:
        """Å: how far apart voxels must be to be independent."""
        common, settings = self.numbers.get("common_resolution_angstrom"), self.settings
        lowpass: Any = settings.get("lowpass") if isinstance(settings, Mapping) else settings.lowpass
        return float(lowpass if common is None else common)

    def regions(
        self, model: AtomicModel | str | Path | tuple[Region, ...], by: By = "chain"
    ) -> OccupancyTable:
        """Return what the parts of a model read in every map.

        Parameters
        ----------
        model : AtomicModel, path-like or tuple of Region
            A model in the frame of the maps, or regions on their grid.
        by : {"chain", "residue", "entity", "ligand"}
            What makes a region.

        Returns
        -------
        OccupancyTable
            Occupancy with its standard error, or the local scale of a map for which none is stated.
        """
        what = self._what
        grid = self.maps[self.names[0]][what].volume()
        if not isinstance(model, tuple):
            read = model if isinstance(model, AtomicModel) else read_model([Path(model)])
            model = regions_of_model(read, grid, by)
        found = ((name, self.maps[name]) for name in self.names)
        return read_regions(
            model,
            ((name, (of[what].data, getattr(of.get("uncertainty"), "data", None))) for name, of in found),
            grid,
            resolution=self._resolution,
            common_error=True,
            kind=what,
            reach_95=records.reach_95(self.numbers),
        )

    def plot(self, path: str | Path | None = None) -> Any:
        """Draw central slices of the maps.

        Parameters
        ----------
        path : path-like, optional
            Where to write a picture; without it the matplotlib figure is returned.
        """
        figure = self._figure()
        if path is None:
            return figure
        figure.savefig(path)
        return None

    def _figure(self) -> Any:
        from occupy.report.slices import lazy_slices

        return lazy_slices(self.maps)


@dataclass(frozen=True, eq=False, repr=False)
class MapResult(Result):
    """What was found of one map.

    All of `Estimate` is there too: ``scale``, ``occupancy`` and ``confidence`` as arrays, ``full_scale``,
    ``solvent``, ``lowest_confident_scale``, ``amplify`` and the rest.

    Attributes
    ----------
    estimate : Estimate
        Numbers and maps.
    asked : Settings
        What the user said.
    inputs : Inputs or None
        The files that were read; None where the map was in memory.
    """

    estimate: Estimate
    asked: Settings
    inputs: Inputs | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "estimate":
            raise AttributeError(name)
        return getattr(self.estimate, name)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the map."""
        return (self.estimate.volume.name,)

    @property
    def maps(self) -> Mapping[str, Maps]:
        """Name → what there is of that map → lazy map."""
        return {self.names[0]: self.estimate.maps}

    @property
    def of_set(self) -> Maps:
        """Nothing: there is one map."""
        return {}

    @property
    def settings(self) -> Any:
        """Settings as they held."""
        return self.estimate.settings

    @cached_property
    def numbers(self) -> Mapping[str, Any]:
        """Every number that was found, with units in the names."""
        return records.numbers_of(self.estimate, self.estimate.variability_limit)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What makes the result doubtful."""
        return self.estimate.notices

    def record(self) -> dict[str, Any]:
        """Return the record as plain values: inputs, settings, numbers, notices."""
        return records.record_of(
            self.estimate,
            self.asked,
            inputs={} if self.inputs is None else self.inputs.by_role,
            outputs={},
            variability_limit=self.estimate.variability_limit,
        )

    def save(self, folder: str | Path) -> Path:
        """Write everything into a folder, as `occupy estimate` does; return the folder.

        A map that was in memory is written too, as ``<name>_input.mrc``.
        """
        folder, volume = Path(folder), self.estimate.volume
        if self.inputs is None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{volume.name}_input.mrc"
            write_map(path, volume, "input")
            read: Any = {"map": (volume, path)}
            voxel_size = None
        else:
            read, voxel_size = self.inputs.by_role, self.inputs.asked.voxel_size
        write_results(self.estimate, self.asked, folder, inputs=read, voxel_size=voxel_size)
        return folder

    def _figure(self) -> Any:
        from occupy.report.figures import slices_figure

        return slices_figure(self.estimate)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Show itself where IPython is not; see `occupy.report.notebook`."""
        from occupy.report.notebook import mime_bundle

        return mime_bundle(self.estimate)

    def _ipython_display_(self) -> None:
        """Show itself in a notebook."""
        from occupy.report.notebook import show

        show(self.estimate)


@dataclass(frozen=True, eq=False, repr=False)
class LoadedResult(Result):
    """A result from its folder; maps are read, and checked against the record, when they are wanted.

    Attributes
    ----------
    path : Path
        The record.
    read : mapping
        What is in it.
    """

    path: Path
    read: Mapping[str, Any]

    def __repr__(self) -> str:
        what = f"{len(self.names)} maps" if self._of_set else self.names[0]
        return f"<result of {what} in {str(self.path.parent)!r}>"

    @property
    def _of_set(self) -> bool:
        return self.read.get("what") == "set"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the maps, in order."""
        if self._of_set:
            return tuple(entry["name"] for entry in self.read["maps"])
        return (self.path.name.removesuffix("_occupy.json"),)

    @cached_property
    def files(self) -> Mapping[str, Mapping[str, Path]]:
        """Name → product → file of each map that is there; of the whole set under the name ``""``."""
        listed = {entry["name"]: entry["outputs"] for entry in self.read["maps"]} if self._of_set else {}
        listed["" if self._of_set else self.names[0]] = self.read["outputs"]
        return {name: self._there(outputs) for name, outputs in listed.items()}

    def _there(self, outputs: Mapping[str, str]) -> dict[str, Path]:
        maps = {p: self.path.parent / f for p, f in outputs.items() if f.endswith(".mrc")}
        return {p: file for p, file in maps.items() if file.exists() and not p.startswith("input")}

    @cached_property
    def maps(self) -> Mapping[str, Maps]:
        """Name → what there is of that map → lazy map."""
        return {name: self._lazy(self.files[name]) for name in self.names}

    @cached_property
    def of_set(self) -> Maps:
        """Lazy maps of the whole set, components included; none of a single map."""
        return self._lazy(self.files[""]) if self._of_set else {}

    def _lazy(self, files: Mapping[str, Path]) -> dict[str, LazyMap]:
        return {product: _lazy_file(file, self.read) for product, file in files.items()}

    @property
    def settings(self) -> Any:
        """Settings as they held, as plain values."""
        return self.read["options" if self._of_set else "settings"]

    @property
    def numbers(self) -> Mapping[str, Any]:
        """Every number that was found, with units in the names."""
        found: Mapping[str, Any] = self.read["numbers"]
        return found

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What makes the result doubtful."""
        return tuple(Notice(n["code"], n["text"]) for n in self.read["notices"])

    @property
    def scale(self) -> Array:
        """Local scale of a single map."""
        return self.maps[self.names[0]]["scale"].data

    @property
    def occupancy(self) -> Array:
        """Occupancy of a single map, or of one that has no other its scale (as 0.1 wrote it)."""
        return self.maps[self.names[0]][self._what].data

    @property
    def confidence(self) -> Array:
        """Confidence of a single map."""
        return self.maps[self.names[0]]["confidence"].data

    def record(self) -> dict[str, Any]:
        """Return the record as it was read."""
        return dict(self.read)

    def save(self, folder: str | Path) -> Path:
        """Copy everything the record names into another folder; return that."""
        folder = Path(folder)
        files = {*map(str, self.read["outputs"].values()), *self.read.get("files", {}), self.path.name}
        for entry in self.read.get("maps", ()):
            files.update(entry["outputs"].values())
        # The record last: where it is, everything else is complete.
        for name in sorted(files, key=lambda name: name == self.path.name):
            source = self.path.parent / name
            if source.is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / name)
        return folder


def _lazy_file(path: Path, record: Mapping[str, Any]) -> LazyMap:
    header = read_header(path)
    grid = LazyMap(header.shape, header.voxel_size(path), header.frame, map_stem(path))
    return LazyMap.on(
        records.on_map_grid(grid, record), whole=lambda: records.read_checked(path, record).data
    )


def load(folder: str | Path) -> LoadedResult:
    """Open a result again.

    Parameters
    ----------
    folder : path-like
        A result folder of one map or of a set, or the record in it.

    Returns
    -------
    LoadedResult
        Its maps are read when they are wanted; those of 0.1, whose records hold no checksums, as they are.

    Raises
    ------
    InputError
        Where there is no record, or a map is not as the run wrote it.
    """
    folder = Path(folder)
    if folder.name == SET_RECORD or (folder / SET_RECORD).is_file():
        path = folder if folder.name == SET_RECORD else folder / SET_RECORD
        return LoadedResult(path, read_set_record(path))
    path = records.find_record(folder)
    return LoadedResult(path, records.read_record(path))


def estimate(
    source: Volume | Inputs | str | Path | npt.NDArray[Any],
    settings: Settings | None = None,
    *,
    voxel_size: float | tuple[float, float, float] | None = None,
    solvent_mask: Volume | None = None,
    target_mask: Volume | None = None,
    half_maps: tuple[Volume, Volume] | None = None,
    progress: Progress | None = None,
    **keywords: Any,
) -> MapResult:
    """Find full scale, solvent model and confidence of a map.

    Parameters
    ----------
    source : Volume, ndarray, Inputs or path-like
        A map in memory, an array (z, y, x) with its ``voxel_size``; or a file, which is opened as the
        command line opens it, half-maps beside it included; or `open_inputs` with what shall be read. Best
        an averaged reconstruction: unsharpened, not masked, with solvent noise.
    settings : Settings, optional
        What the user wants; defaults choose by themselves.
    voxel_size : float or tuple of float, optional
        Å per voxel of an array (along z, y, x); of a file one number, in place of its header's.
    solvent_mask : Volume, optional
        Mask of the solvent or of the content (thresholded at 0.9), to help the solvent fit.
    target_mask : Volume, optional
        Mask of a part whose occupancy is wanted.
    half_maps : tuple of Volume, optional
        Independent halves of the map, on its grid: the noise is then measured where the particle is, and
        no solvent is needed for it. For the calibrated estimator.
    progress : callable, optional
        ``progress(stage, done, total)``.
    **keywords
        Single settings, by the names `Settings` has; they count before those of ``settings``.

    Returns
    -------
    MapResult
        Numbers now; ``.scale``, ``.confidence`` and the other maps are computed when first asked for.

    Raises
    ------
    InputError
        Where no right answer exists (constant, not finite, two-dimensional, …), or a mask or half-map in
        memory is given with a map that is a file. TypeError for a setting that does not exist.
    """
    asked = with_keywords(settings, keywords)
    if isinstance(source, np.ndarray):
        source, voxel_size = volume_of(source, voxel_size), None
    if voxel_size is not None and not isinstance(source, (str, Path)):
        raise InputError("voxel_size is for arrays and files; a Volume, or open_inputs, has its own")
    if isinstance(source, Volume):
        found = pipeline.estimate(
            source,
            asked,
            solvent_mask=solvent_mask,
            target_mask=target_mask,
            half_maps=half_maps,
            progress=progress,
        )
        return MapResult(found, asked)
    if (solvent_mask, target_mask, half_maps) != (None, None, None):
        raise InputError("masks and half-maps of a map that is a file are named in occupy.open_inputs")
    if isinstance(voxel_size, tuple):
        raise InputError(f"the voxel size of a file is one number in Å, not {voxel_size}")
    opened = source if isinstance(source, Inputs) else open_inputs(source, asked, voxel_size=voxel_size)
    return MapResult(opened.estimate(asked, progress), asked, opened)
