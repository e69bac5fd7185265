"""One opening of inputs for command line, viewer and Python: a map and all that is read with it.

What lies beside a map and changes its numbers (half-maps, found by their names) is taken here and nowhere
else, and whoever opens the map is told so by a notice, which also goes into the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from occupy import pipeline
from occupy.errors import InputError, Notice
from occupy.io.checksum import ReadFile
from occupy.io.mapset import find_half_maps
from occupy.io.mrc import read_header, read_source
from occupy.options import short_repr
from occupy.pipeline import Estimate, Progress
from occupy.settings import Settings
from occupy.volume import Volume

Reader = Callable[..., tuple[Volume, ReadFile]]
HALVES = ("half_map_1", "half_map_2")


@dataclass(frozen=True)
class InputFiles:
    """Files an estimate is made of, as the user named them.

    Attributes
    ----------
    map : Path
        The map.
    half_maps : tuple of Path, optional
        Its independent halves.
    solvent_mask, target_mask : Path, optional
        See `occupy.estimate`.
    voxel_size : float, optional
        Å per voxel, in place of what the headers of all files say.
    neighbours : bool
        Whether half-maps that lie beside the map may be taken without being named.
    """

    map: Path
    half_maps: tuple[Path, Path] | None = None
    solvent_mask: Path | None = None
    target_mask: Path | None = None
    voxel_size: float | None = None
    neighbours: bool = True

    __repr__ = short_repr

    @classmethod
    def of_record(cls, record: Mapping[str, Any], source: Path, find: Callable[[str], Path]) -> InputFiles:
        """Return what a result was made of.

        Parameters
        ----------
        record : mapping
            Record of an estimate.
        source : Path
            Where its map is now.
        find : callable
            ``find(path)`` returns where another of its files is now.
        """
        roles = ("solvent_mask", "target_mask", *HALVES)
        named = {role: find(about["path"]) for role, about in record["inputs"].items() if role in roles}
        first, second = (named.pop(role, None) for role in HALVES)
        halves = None if first is None or second is None else (first, second)
        # Those that would be found again need not be named again.
        found = halves is not None and halves == find_half_maps(source)
        size = record["options"].get("voxel_size")
        return cls(source, None if found else halves, voxel_size=size, neighbours=found, **named)

    def beside(self, settings: Settings) -> tuple[Path, Path] | None:
        """Return half-maps that lie beside the map and may be taken; None where none are, or of no use."""
        if self.half_maps is not None or not self.neighbours or settings.chosen_estimator != "calibrated":
            return None
        return find_half_maps(self.map)

    def by_role(self, settings: Settings) -> dict[str, Path]:
        """Return the file of every role (``map``, ``solvent_mask``, ``half_map_1`` …) that would be read."""
        beside = self.beside(settings)
        if beside is not None and not self._fit(beside):
            beside = None
        pair = self.half_maps or beside or (None, None)
        roles = {
            "map": self.map,
            "solvent_mask": self.solvent_mask,
            "target_mask": self.target_mask,
            **dict(zip(HALVES, pair, strict=True)),
        }
        return {role: path for role, path in roles.items() if path is not None}

    def open(self, settings: Settings | None = None, read: Reader = read_source) -> Inputs:
        """Read everything; see `open_inputs`.

        Parameters
        ----------
        settings : Settings, optional
            Half-maps beside the map are taken only where the estimator has a use for them.
        read : callable, optional
            ``read(path, voxel_size=…)`` returns a `Volume` and the `ReadFile` it was read from.
        """
        settings = settings or Settings()
        try:
            files = self.by_role(settings)
            read_in = {role: read(path, voxel_size=self.voxel_size) for role, path in files.items()}
        except InputError as error:
            # Nobody has named these files, so how to do without them must be said.
            if any(path.name in str(error) for path in self.beside(settings) or ()):
                hint = "a half-map that lies beside the map; --no-neighbours leaves it out"
                raise type(error)(f"{error} ({hint})") from error
            raise
        volumes = {role: volume for role, (volume, _) in read_in.items()}
        volume = volumes["map"]
        notice = self._notice(files, settings)
        if notice is not None:
            volumes["map"] = replace(volume, notices=(*volume.notices, notice))
        return Inputs(self, volumes, {role: source for role, (_, source) in read_in.items()})

    def _fit(self, halves: tuple[Path, Path]) -> bool:
        """Tell whether half-maps have the map's number of voxels and order of axes, by their headers."""
        headers = [read_header(path) for path in (self.map, *halves)]
        return len({(header.shape, header.frame.axes) for header in headers}) == 1

    def _notice(self, files: Mapping[str, Path], settings: Settings) -> Notice | None:
        """Say what was taken, or found and left, without the user having named it."""
        beside = self.beside(settings)
        if beside is None:
            return None
        names = f"{beside[0].name} and {beside[1].name}"
        if HALVES[0] in files:
            text = f"the half-maps beside it are used, {names} (--no-neighbours leaves them out)"
        else:
            text = f"the half-maps beside it, {names}, are not on its grid; they are not used"
        return Notice("neighbours", f"{self.map.name}: {text}")


@dataclass(frozen=True, eq=False)
class Inputs:
    """A map and all that is read with it; from `open_inputs`.

    Attributes
    ----------
    asked : InputFiles
        What the user named.
    volumes : mapping
        Role → what was read, half-maps found beside the map included.
    sources : mapping
        Role → file it was read from, with the checksum of what was read.
    """

    asked: InputFiles
    volumes: Mapping[str, Volume] = field(repr=False)
    sources: Mapping[str, ReadFile] = field(repr=False)

    def __repr__(self) -> str:
        return f"<Inputs of {self.volume.name!r}: {', '.join(self.sources)}>"

    @property
    def files(self) -> dict[str, Path]:
        """Role → file that was read."""
        return {role: source.path for role, source in self.sources.items()}

    @property
    def volume(self) -> Volume:
        """The map."""
        return self.volumes["map"]

    @property
    def half_maps(self) -> tuple[Volume, Volume] | None:
        """Both half-maps, or None."""
        first, second = (self.volumes.get(role) for role in HALVES)
        return None if first is None or second is None else (first, second)

    @property
    def found(self) -> tuple[str, ...]:
        """Roles of the files that were taken without being named."""
        return HALVES if self.asked.half_maps is None and HALVES[0] in self.files else ()

    @property
    def by_role(self) -> dict[str, tuple[Volume, ReadFile | Path]]:
        """Volume and source of every role, as `occupy.report.results.write_results` takes them."""
        return {role: (self.volumes[role], source) for role, source in self.sources.items()}

    def estimate(self, settings: Settings | None = None, progress: Progress | None = None) -> Estimate:
        """Estimate the map with everything that was read for it."""
        try:
            return pipeline.estimate(
                self.volume,
                settings,
                solvent_mask=self.volumes.get("solvent_mask"),
                target_mask=self.volumes.get("target_mask"),
                half_maps=self.half_maps,
                progress=progress,
            )
        except InputError as error:
            # Of many maps, the user wants to know which one it is about.
            path = self.files["map"]
            raise InputError(str(error) if self.volume.name in str(error) else f"{path}: {error}") from error


def open_inputs(
    path: str | Path,
    settings: Settings | None = None,
    *,
    half_maps: tuple[str | Path, str | Path] | None = None,
    solvent_mask: str | Path | None = None,
    target_mask: str | Path | None = None,
    voxel_size: float | None = None,
    neighbours: bool = True,
) -> Inputs:
    """Read a map and what belongs to it as the command line does.

    Parameters
    ----------
    path : path-like
        The map.
    settings : Settings, optional
        Half-maps beside the map are taken only where the estimator has a use for them.
    half_maps : tuple of path-like, optional
        Independent halves of the map; by default those that lie beside it under the names that RELION,
        cryoSPARC or EMDB give them.
    solvent_mask, target_mask : path-like, optional
        See `estimate`.
    voxel_size : float, optional
        Å per voxel, in place of what the headers of all files say.
    neighbours : bool, default True
        Take half-maps that lie beside the map. Whether they are taken changes the numbers, so a notice of
        the map says it.

    Returns
    -------
    Inputs
        To hand to `estimate`, or look at.

    Raises
    ------
    InputError
        Where a file is missing or is no map.
    """
    halves = None if half_maps is None else (Path(half_maps[0]), Path(half_maps[1]))
    solvent, target = (None if mask is None else Path(mask) for mask in (solvent_mask, target_mask))
    return InputFiles(Path(path), halves, solvent, target, voxel_size, neighbours).open(settings)


def volume_of(data: npt.NDArray[Any], voxel_size: float | tuple[float, float, float] | None) -> Volume:
    """Return an array (z, y, x) as a map; InputError where it can't be one, or its voxel size is missing."""
    if voxel_size is None:
        raise InputError("an array does not say how large its voxels are: give voxel_size=… in Å")
    try:
        return Volume.from_array(data, voxel_size)
    except ValueError as error:
        raise InputError(str(error)) from error
