"""Which class of a file of particles belongs to which map: where one counts from 0 or 1 is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occupy.errors import InputError, Notice
from occupy.io.atomic import read_errors
from occupy.io.mapset import MapSet, some_of
from occupy.io.particles import Particles

RECORD = "occupy_set.json"
_LEFT_OUT = "small-class"  # of the notices of a set
_ITERATION = re.compile(r"_it(\d+)_")


@dataclass(frozen=True)
class _NumberedMap:
    """A map of a set: name in tables, class number as its source counts, share and count of particles."""

    name: str
    number: int | None
    weight: float | None = None
    particles: int | None = None


@dataclass(frozen=True)
class NumberedSet:
    """The maps of a set and how they are numbered.

    Attributes
    ----------
    kind : str
        ``relion``, ``cryosparc``, ``cryodrgn`` or ``files``.
    source : str
        The model.star or folder they come from.
    base : int or None
        Number of the source's first class, where it is known.
    maps : tuple of NumberedMap
        The maps.
    whole : bool
        Whether no class of the source was left out on purpose (because it holds hardly any particles).
    """

    kind: str
    source: str
    base: int | None
    maps: tuple[_NumberedMap, ...]
    whole: bool = True

    @classmethod
    def of(cls, found: MapSet) -> NumberedSet:
        """Return what matters here of a set that was found."""
        maps = (_NumberedMap(m.name, m.number, m.weight, m.particles) for m in found.maps)
        return cls(found.kind, str(found.source), found.base, tuple(maps))

    @classmethod
    def read(cls, path: Path) -> NumberedSet:
        """Read the record of a set, ``occupy_set.json``; InputError where it is none."""
        hint = "no such file; it says which class is which map. Name the job with --set instead"
        with read_errors(path, hint):
            text = path.read_text(encoding="utf-8")
        try:
            record = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path}: not a readable record of a set ({error})") from error
        try:
            maps = tuple(_map(entry) for entry in record["maps"])
            left_out = any(notice["code"] == _LEFT_OUT for notice in record.get("notices", ()))
            base = _of(record, "base", int)
            return cls(str(record["kind"]), str(record["source"]), base, maps, not left_out)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: not the record of a set, or an incomplete one ({error})") from error

    def match(
        self,
        particles: Particles,
        *,
        map_base: int | None = None,
        label_base: int | None = None,
    ) -> tuple[dict[str, int], list[Notice]]:
        """Tell which class of the particles belongs to which map.

        Whether maps and particles are counted from 0 or 1 is taken from what the formats fix and from
        numbers that only one way of counting has (0, or the number of classes); where that does not settle
        it, the user has to say.

        Parameters
        ----------
        particles : Particles
            The particles.
        map_base, label_base : int, optional
            What the user says of the numbering of maps and of particles.

        Returns
        -------
        dict of str to int
            Map → class number in the file of particles.
        list of Notice
            What is doubtful.

        Raises
        ------
        InputError
            Where the two don't fit, or it can't be told.
        """
        numbers = [each.number for each in self.maps]
        known = [number for number in numbers if number is not None]
        if len(known) < len(numbers) or len(set(known)) < len(known):
            raise InputError(
                f"{self.source}: its maps have no class numbers (or one number twice), so particles can't be "
                "assigned; make the table from the job's folder or model.star"
            )
        _check_kinds(self, particles)
        counts = particles.counts()
        first_map = _map_base(self, known, particles, map_base)
        classes = max(known) - first_map + 1 if self.whole else None
        first_label = _label_base(particles, classes, label_base)
        labels = {each.name: n - first_map + first_label for each, n in zip(self.maps, known, strict=True)}
        complete = self.whole and set(known) == set(range(first_map, max(known) + 1))
        notices = _strangers(self, particles, labels, complete)
        empty = [name for name, label in labels.items() if label not in counts]
        if empty:
            notices.append(Notice("empty-class", f"no particles in the class of {some_of(empty)}"))
        return labels, notices + _warnings(self, particles, labels)


def _of(entry: Mapping[str, Any], key: str, kind: type) -> Any:
    value = entry.get(key)
    wanted = (int, float) if kind is float else kind
    if value is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
        raise TypeError(f"{key} is {value!r}")
    return value


def _map(entry: Mapping[str, Any]) -> _NumberedMap:
    return _NumberedMap(
        str(entry["name"]),
        _of(entry, "number", int),
        _of(entry, "weight", float),
        _of(entry, "particles", int),
    )


def _check_kinds(maps: NumberedSet, particles: Particles) -> None:
    if maps.kind not in ("files", particles.kind):
        raise InputError(
            f"{particles.path}: particles of {particles.kind}, but the maps are those of {maps.kind} "
            f"({maps.source})"
        )


def _map_base(maps: NumberedSet, numbers: Sequence[int], particles: Particles, said: int | None) -> int:
    if maps.base is not None:
        if said not in (None, maps.base):
            raise InputError(f"{maps.source} counts its maps from {maps.base}, not from {said}")
        found = maps.base
    elif said is not None:
        found = said
    elif min(numbers) == 0:
        found = 0
    elif particles.base is not None and set(numbers) == set(particles.counts()):
        found = particles.base
    else:
        raise InputError(
            f"{maps.source}: it can't be told whether maps are numbered from 0 or from 1; "
            "look it up and say --map-base 0 or 1"
        )
    if min(numbers) < found:
        raise InputError(f"{maps.source}: it has a map {min(numbers)}, so it does not count from {found}")
    return found


def _label_base(particles: Particles, classes: int | None, said: int | None) -> int:
    """Tell where the classes of particles begin; how many there are is None where some were left out."""
    low, high = int(particles.labels.min()), int(particles.labels.max())
    name = particles.path.name
    if low < 0:
        raise InputError(f"{name}: class {low}: particles without a class; leave them out first")
    if particles.base is not None and said not in (None, particles.base):
        raise InputError(f"{name}: {particles.kind} counts classes from {particles.base}, not from {said}")
    base = said if particles.base is None else particles.base
    if base is None:
        return _guessed_base(name, low, high, classes)
    if low < base:
        raise InputError(f"{name}: it has a class {low}, but classes count from {base}")
    return base


def _guessed_base(name: str, low: int, high: int, classes: int | None) -> int:
    if classes is not None and (high > classes or (low == 0 and high == classes)):
        raise InputError(
            f"{name}: classes {low} to {high}, but there are {classes} maps: another job's particles?"
        )
    if low == 0 or high == classes:
        return int(low > 0)
    of = "" if classes is None else f" of {classes}"
    raise InputError(
        f"{name}: classes {low} to {high}{of}: it can't be told whether they are counted from 0 or "
        "from 1; look it up and say --label-base 0 or 1"
    )


def _strangers(
    maps: NumberedSet, particles: Particles, labels: Mapping[str, int], complete: bool
) -> list[Notice]:
    """Look for classes of particles that no map of the set stands for."""
    counts = particles.counts()
    extra = sorted(set(counts) - set(labels.values()))
    if not extra:
        return []
    named = some_of(str(label) for label in extra)
    if complete:
        raise InputError(
            f"{particles.path}: class {named} has no map in {maps.source} ({len(maps.maps)} maps): "
            "particles of another job or iteration?"
        )
    lost = sum(counts[label] for label in extra)
    text = f"{lost} particles are in classes that have no map ({named}); they are left out"
    return [Notice("classes-without-map", text)]


def _warnings(maps: NumberedSet, particles: Particles, labels: Mapping[str, int]) -> list[Notice]:
    """Compare counts and iterations of the record with those of the particles."""
    notices = []
    ours, theirs = (_ITERATION.search(Path(name).name) for name in (maps.source, str(particles.path)))
    if ours and theirs and int(ours[1]) != int(theirs[1]):
        text = f"the maps are of iteration {int(ours[1])}, the particles of {int(theirs[1])}"
        notices.append(Notice("other-iteration", f"{text}: take both from one iteration"))
    counts = particles.counts()
    for each in maps.maps:
        found = counts.get(labels[each.name], 0)
        if each.particles is not None and each.particles != found:
            text = f"{each.name} had {each.particles} particles when the table was made, here {found}"
            notices.append(Notice("other-particles", f"{text}: a part of them, or another job?"))
            break
    return notices
