"""What the user may override, and what a running job's earlier files tell of it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from occupy.errors import InputError, OccupyError
from occupy.io.loop import ReconstructionCall
from occupy.io.star import StarTable, read_star

_FILE = "occupy_relion.yaml"
_PREFIX = "OCCUPY_RELION_"


@dataclass(frozen=True)
class HookOptions:
    """Settings of the program that RELION calls; none of them is needed.

    Attributes
    ----------
    executable : str
        RELION's own program for the reconstruction.
    off : bool
        Leave RELION's maps as they are, and record only.
    budget : float
        Most degrees of freedom of a class's own part per particle in it.
    strength : float
        Least factor by which the noise is taken to be larger than measured.
    finest : float
        Å; differences finer than this are not used. 0: as fine as RELION's own current resolution.
    diameter, pixel_size : float
        Å; 0: from the job's files.
    seconds : float
        RELION's own program is given up after so long; 0: never.
    """

    executable: str = "relion_external_reconstruct"
    off: bool = False
    budget: float = 0.2
    strength: float = 1.0
    finest: float = 0.0
    diameter: float = 0.0
    pixel_size: float = 0.0
    seconds: float = 0.0

    @classmethod
    def read(cls, folder: Path, environment: Mapping[str, str] | None = None) -> HookOptions:
        """Read overrides for the job in ``folder``; the environment counts more than the file.

        Raises
        ------
        InputError
            Where a name is unknown or a value is no number.
        """
        environment = os.environ if environment is None else environment
        options, file = cls(), folder / _FILE
        if file.is_file():
            options = _apply(options, _pairs(file), str(file))
        names = {field.name: _PREFIX + field.name.upper() for field in fields(HookOptions)}
        given = {name: environment[key] for name, key in names.items() if environment.get(key)}
        return _apply(options, given, "environment")


def _pairs(file: Path) -> dict[str, str]:
    """Read lines ``name: value``: the part of YAML that settings need."""
    pairs = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        text = line.split("#")[0].strip()
        if not text:
            continue
        name, colon, value = text.partition(":")
        if not colon or not value.strip():
            raise InputError(f"{file}: line {number} should read `name: value`, not {line.strip()!r}")
        pairs[name.strip()] = value.strip().strip("'\"")
    return pairs


def _apply(options: HookOptions, given: Mapping[str, str], source: str) -> HookOptions:
    known = {field.name: type(getattr(options, field.name)) for field in fields(HookOptions)}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in known:
            raise InputError(f"{source}: unknown setting {name!r}; known are {', '.join(known)}")
        values[name] = _parse(text, known[name], f"{source}: {name}")
    return replace(options, **values)


def _parse(text: str, kind: type, what: str) -> Any:
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off"):
            return False
        raise InputError(f"{what} should be yes or no, not {text!r}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{what} should be a number not below 0, not {text!r}")
    return value


_ITERATION = re.compile(r"(.*)_it(\d+)_(model|optimiser)\.star")


@dataclass(frozen=True)
class RunningJob:
    """What is known of the job, None where a file does not say.

    Attributes
    ----------
    pixel_size, diameter : float or None
        Å.
    particles, classes, iterations : int or None
        Numbers of them; the iterations are those asked for.
    """

    pixel_size: float | None = None
    diameter: float | None = None
    particles: int | None = None
    classes: int | None = None
    iterations: int | None = None

    @classmethod
    def of(cls, call: ReconstructionCall) -> RunningJob:
        """Read the latest model.star and optimiser.star before this iteration, beside the call's files.

        Files that are missing or damaged leave things unknown.
        """
        model = _tables(_latest(call, "model"))
        optimiser = _tables(_latest(call, "optimiser")).get("optimiser_general")
        general = model.get("model_general")
        groups = model.get("model_groups")
        counts = groups.numbers("rlnGroupNrParticles") if groups and groups.has("rlnGroupNrParticles") else ()
        classes = _value(general, "rlnNrClasses")
        iterations = _value(optimiser, "rlnNumberOfIterations")
        return cls(
            pixel_size=call.pixel_size or _value(general, "rlnPixelSize"),
            diameter=call.diameter or _value(optimiser, "rlnParticleDiameter"),
            particles=round(sum(counts)) or None,
            classes=int(classes) if classes else None,
            iterations=int(iterations) if iterations else None,
        )


def _latest(call: ReconstructionCall, kind: str) -> Path | None:
    """Return the newest file of a kind; those of the iteration that is being computed do not exist yet."""
    found = []
    for path in call.star.parent.glob(f"*_{kind}.star"):
        match = _ITERATION.fullmatch(path.name)
        if match and int(match[2]) < max(call.iteration, 1):
            found.append((int(match[2]), path.stat().st_mtime, path))
    return max(found)[2] if found else None


def _tables(path: Path | None) -> dict[str, StarTable]:
    if path is None:
        return {}
    names = ("rlnPixelSize", "rlnNrClasses", "rlnGroupNrParticles", "rlnParticleDiameter")
    try:
        return read_star(path, columns=(*names, "rlnNumberOfIterations"))
    except OccupyError:
        return {}


def _value(table: StarTable | None, name: str) -> float | None:
    """Return a positive number of a table, None where there is none."""
    if table is None or not table.has(name) or not table.rows:
        return None
    value = table.numbers(name)[0]
    return value if math.isfinite(value) and value > 0 else None
