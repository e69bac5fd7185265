"""What the page can show: layers on one grid, their slices and surfaces; which are open."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.report.palette import CONFIDENCE, DIFFERENCE, SCALE, UNCERTAINTY
from occupy.report.surfaces import LIMITS, ON_SURFACE, carried, pack, surface_message, to_bytes
from occupy.volume import Volume
from occupy.web.shelf import ArrayCache, ClosedError, WatchedFiles

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """How a layer is drawn.

    Attributes
    ----------
    title : str
        For people.
    palette : str
        ``grey``, ``scale``, ``confidence``, ``uncertainty``, ``difference`` or ``mask``.
    low, high : float
        Values of the palette's ends.
    unit : str
        Of the values.
    """

    title: str
    palette: str
    low: float = 0.0
    high: float = 1.0
    unit: str = ""


class Scene(ABC):
    """Layers that share one grid; a map with what was found of it, or a set of maps.

    Layers are arrays in (z, y, x) order, whatever the axis order of the files.

    Parameters
    ----------
    number : int
        Identifier on the page.
    title : str
        For people.
    volume : Volume
        Whose grid the layers are on.
    watched : WatchedFiles
        The files it was made of.
    cache : ArrayCache
        For what can be read or computed again.
    """

    def __init__(
        self, number: int, title: str, volume: Volume, watched: WatchedFiles, cache: ArrayCache
    ) -> None:
        self.id = number
        self.title = title
        self.grid = volume
        self.watched = watched
        self.cache = cache
        self.revision = 1
        self.lock = threading.RLock()

    @property
    @abstractmethod
    def looks(self) -> dict[str, Look]:
        """Name → look of every layer that can be shown."""

    @abstractmethod
    def layer(self, name: str) -> Array:
        """Return a layer; InputError where there is none of that name."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Return what the page needs to know besides `geometry` and looks."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """Bytes of the arrays that stay while it is open."""

    def close(self) -> None:
        """Give back what it has in the cache."""
        self.cache.drop(lambda key: key[0] == self.id)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        z, y, x = self.grid.standard().shape
        return z, y, x

    @property
    def spacing(self) -> list[float]:
        """Å per voxel along x, y, z."""
        return list(self.grid.spacing)

    @property
    def origin(self) -> list[float]:
        """Position x, y, z in Å of the first voxel."""
        return [float(v) for v in self.grid.position((0, 0, 0))]

    def describe(self) -> dict[str, Any]:
        """Return everything the page shows of this scene besides pictures."""
        return {
            "id": self.id,
            "title": self.title,
            "revision": self.revision,
            "shape": self.shape,
            "spacing": self.spacing,
            "origin": self.origin,
            "looks": {name: asdict(look) for name, look in self.looks.items()},
            **self.about(),
        }

    def slices(self, axis: int, index: int, names: Sequence[str]) -> bytes:
        """Return one slice of several layers, across z (0), y (1) or x (2), as bytes with their ranges."""
        _check_index(self.shape, axis, index)
        looks, arrays, shown = self.looks, {}, {}
        for name in names:
            plane = np.take(self.layer(name), index, axis=axis)
            look = _look(looks, name)
            arrays[name] = to_bytes(plane, look.low, look.high)
            shown[name] = [look.low, look.high]
        rows, columns = (n for a, n in enumerate(self.shape) if a != axis)
        head = {"axis": axis, "index": index, "rows": rows, "columns": columns, "ranges": shown}
        return pack(head, arrays)

    def values(self, place: Sequence[int], names: Sequence[str]) -> dict[str, float]:
        """Return the values of layers at one voxel z, y, x."""
        for axis, index in enumerate(place):
            _check_index(self.shape, axis, index)
        return {name: float(self.layer(name)[tuple(place)]) for name in names}

    def surface(
        self,
        source: str,
        level: float,
        colours: Sequence[str],
        *,
        dust: float = 0.0,
        quality: str = "fine",
        data: Array | None = None,
    ) -> bytes:
        """Return the surface of a layer at a level, with the values of other layers at its vertices.

        Parameters
        ----------
        source : str
            Layer.
        level : float
            In its units.
        colours : sequence of str
            Layers whose values go along, as bytes between the ends of their looks.
        dust : float
            Pieces of less than this volume (Å³) are left out.
        quality : {"fine", "coarse", "thumb"}
            For a picture at rest, while a slider moves, or in a gallery.
        data : ndarray, optional
            In place of the layer's own values.
        """
        looks = self.looks
        _look(looks, source)
        if not np.isfinite(level):
            raise InputError(f"the level must be a number, not {level}")
        if quality not in LIMITS:
            raise InputError(f"there is no quality {quality!r}; choose {', '.join(LIMITS)}")
        layers = {}
        for name in colours:
            look = _look(looks, name)
            # The colours of a modified map are those of the map itself.
            painted = self.layer(name) if name in ON_SURFACE else self._carried(source, name)
            layers[name] = painted, look.low, look.high
        return surface_message(
            self.layer(source) if data is None else data,
            level,
            layers,
            spacing=self.spacing,
            origin=self.origin,
            dust=dust,
            limits=LIMITS[quality],
            head={"source": source, "quality": quality},
        )

    def _carried(self, source: str, name: str) -> Array:
        """Return a layer as it is painted on surfaces of another; made once for all levels."""

        def make() -> Array:
            return carried(self.layer(source), {name: self.layer(name)}, self.spacing[::-1])[name]

        return self.cache.get((self.id, "beneath", source, name, self.revision), make)


def _look(looks: dict[str, Look], name: str) -> Look:
    try:
        return looks[name]
    except KeyError:
        raise InputError(f"there is no layer {name!r}") from None


def _check_index(shape: Sequence[int], axis: int, index: int) -> None:
    if axis not in (0, 1, 2):
        raise InputError(f"the axis must be 0 (z), 1 (y) or 2 (x), not {axis}")
    if not 0 <= index < shape[axis]:
        raise InputError(f"there is no slice {index} along {'zyx'[axis]}; there are {shape[axis]}")


@dataclass(frozen=True)
class Limits:
    """Memory the viewer may take, in bytes.

    Attributes
    ----------
    scenes : int
        For what must stay while a map is open; beyond it, the map not looked at for longest is closed. Half
        of the computer's memory by default: estimating one more map needs the other half.
    layers : int
        For what can be read or computed again.
    """

    scenes: int
    layers: int

    @classmethod
    def usual(cls) -> Limits:
        """Return limits that fit this computer."""
        memory = _physical_memory()
        return cls(memory // 2, memory // 8)


def _physical_memory() -> int:
    """Return the computer's memory in bytes; 8 GB where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


class OpenScenes:
    """Open scenes by number.

    Parameters
    ----------
    limit : int
        Bytes they may hold together; the scene looked at last stays whatever its size.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # In the order in which they were last looked at.
        self._open: dict[int, Scene] = {}
        self._reasons: dict[int, str] = {}
        self._lock = threading.Lock()

    def in_order(self) -> list[Scene]:
        """Return all of them in the order in which they were opened."""
        with self._lock:
            return [self._open[number] for number in sorted(self._open)]

    def get(self, number: int) -> Scene:
        """Return a scene.

        Raises
        ------
        ClosedError
            Where it was closed, or must be now, as its files are not what they were.
        InputError
            Where there was none of this number.
        """
        with self._lock:
            scene = self._open.pop(number, None)
            if scene is None:
                if number in self._reasons:
                    raise ClosedError(self._reasons[number])
                raise InputError("this map is not open any more; open it again")
            self._open[number] = scene
        try:
            scene.watched.check()
        except ClosedError as error:
            self.close(number, str(error))
            raise
        return scene

    def add(self, scene: Scene) -> None:
        """Keep a scene, and close those looked at longest ago where all together are too large."""
        with self._lock:
            self._open.pop(scene.id, None)
            others = list(self._open.values())
            self._open[scene.id] = scene
        total = scene.memory + sum(other.memory for other in others)
        for other in others:
            if total <= self.limit:
                break
            total -= other.memory
            self.close(other.id, f"{other.title} was closed to make room for {scene.title}; open it again")

    def close(self, number: int, reason: str = "") -> None:
        """Forget a scene; whoever asks for it later is told the reason."""
        with self._lock:
            scene = self._open.pop(number, None)
            if scene is None:
                return
            if reason:
                self._reasons[number] = reason
            # Kept for pages that ask for a scene which was closed.
            for old in list(self._reasons)[:-100]:
                del self._reasons[old]
        scene.close()


def palettes() -> dict[str, list[str]]:
    """Return name → colours at equal steps, from the lowest value to the highest."""
    return {
        "grey": ["#000000", "#ffffff"],
        "scale": list(SCALE),
        "confidence": list(CONFIDENCE),
        "uncertainty": list(UNCERTAINTY),
        "difference": list(DIFFERENCE),
        "mask": ["#10151c", "#e8f0f8"],
    }
