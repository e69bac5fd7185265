"""The scenes that are open: found by number, closed where their files changed or memory is short."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from occupy.errors import InputError
from occupy.web.scene import Scene
from occupy.web.watched import ClosedError, physical_memory

# Reasons kept for pages that ask for a scene which was closed.
_REASONS = 100


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
        memory = physical_memory()
        return cls(memory // 2, memory // 8)


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
            for old in list(self._reasons)[:-_REASONS]:
                del self._reasons[old]
        scene.close()
