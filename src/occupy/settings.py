"""What the user asks for, described once: fields of frozen dataclasses with help, unit and panel.

Command line, web form and record all read these descriptions. Plain Python without NumPy, so that the command
line starts at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from occupy.errors import InputError


def option(
    default: Any, text: str, panel: str = "", unit: str = "", flags: tuple[str, ...] = (), **typer: Any
) -> Any:
    """Describe one field of a dataclass of options.

    Parameters
    ----------
    default : object
        Its default; ``...`` where it must be given.
    text : str
        Help, one sentence. The default is named where it is not a plain value.
    panel : str
        Heading under which it stands.
    unit : str
        Of its value.
    flags : tuple of str
        How it is written; by default ``--its-name``, with ``/--no-its-name`` for a switch that is on.
    **typer
        What the command line needs besides: ``metavar``, ``min``, ``max``; ``kind``, a type to read in place
        of the field's own; ``argument``, true for words without a flag.
    """
    about = {"help": text, "panel": panel, "unit": unit, "flags": flags, "typer": typer}
    return field(default=MISSING if default is ... else default, metadata=about)


def flags_of(each: Field[Any]) -> tuple[str, ...]:
    """Return how an option is written on a command line."""
    if given := each.metadata["flags"]:
        return tuple(given)
    name = each.name.rstrip("_").replace("_", "-")
    return (f"--{name}/--no-{name}" if each.default is True else f"--{name}",)


def names_of(options: type) -> frozenset[str]:
    """Return the names of the fields of a dataclass."""
    return frozenset(each.name for each in fields(options))


def as_written(*options: Any, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return options as plain values for a record, under the names they have on the command line.

    Parameters
    ----------
    *options : dataclass
        Objects whose fields are described by `option`.
    without : iterable of str
        Fields left out.
    """
    said: dict[str, Any] = {}
    for one in options:
        values = asdict(one)
        for each in fields(one):
            if each.name not in without:
                said[_written(each)] = _plain(values[each.name])
    return said


def _written(each: Field[Any]) -> str:
    if each.metadata["typer"].get("argument"):
        return each.name
    long = next(flag for flag in flags_of(each) if flag.startswith("--"))
    return long.split("/")[0].removeprefix("--").replace("-", "_")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def short_repr(thing: Any, most: int = 100) -> str:
    """Fields of a dataclass in one line: arrays by their shape only, and ``…`` for what does not fit.

    Parameters
    ----------
    thing : dataclass
        Any.
    most : int
        Characters of the line.
    """
    said = ", ".join(f"{each.name}={_in_short(getattr(thing, each.name))}" for each in fields(thing))
    room = most - len(type(thing).__name__) - 2
    return f"{type(thing).__name__}({said if len(said) <= room else said[: room - 2] + ' …'})"


def _in_short(value: Any) -> str:
    if hasattr(value, "dtype") and value.shape:
        return f"<array {'×'.join(map(str, value.shape))}>"
    if is_dataclass(value):
        return f"<{type(value).__name__}>"
    if isinstance(value, float):
        return f"{value:.4g}"
    # Of many things, none is worth the line; and the repr of a long one takes its time.
    if isinstance(value, (tuple, list, Mapping)) and len(value) > 3:
        return f"<{len(value)}>"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(_in_short(each) for each in value)})"
    return f"<{type(value).__name__}>" if callable(value) else " ".join(repr(value).split())


Mode = Literal["occupancy", "resolution"]
Estimator = Literal["calibrated", "local", "nlf"]

MODES: tuple[Mode, ...] = ("occupancy", "resolution")
ESTIMATORS: tuple[Estimator, ...] = ("calibrated", "local", "nlf")


@dataclass(frozen=True)
class Estimation:
    """What is estimated: scale and confidence; see `Settings`."""

    mode: Mode = option(
        "occupancy", "Scale of the low-passed map (occupancy) or of the map as it is (resolution).", "Scale"
    )
    estimator: Estimator | None = option(
        None,
        "Estimator; nlf repeats the published program voxel by voxel [default: calibrated; local in "
        "resolution mode or with a tile].",
        "Scale",
    )
    resolution: float | None = option(
        None, "Worst resolution of the content; the low-pass is at least this.", "Scale", "Å"
    )
    lowpass: float | None = option(
        None, "Low-pass resolution [default: 9 Å (nlf and local: 8 Å) or 3 voxels, the larger].", "Scale", "Å"
    )
    kernel_size: int | None = option(
        None,
        "Side of the footprint's box, odd [default: from the radius or the low-pass].",
        "Scale",
        "voxels",
    )
    kernel_radius: float | None = option(
        None, "Radius of the footprint [default: 5.6 Å; nlf and local: half the low-pass].", "Scale", "voxels"
    )
    tau: float | None = option(None, "Quantile level of full scale [default: from the footprint].", "Scale")
    tile_size: int | str | None = option(
        None,
        "Side of the tiles searched for full scale, voxels (12) or length (40A) [default: 5 low-passes].",
        "Scale",
        kind=str | None,
        metavar="N|LENGTH",
    )
    naive: bool = option(False, "Full scale from the map's maximum instead of a tile.", "Scale")
    recalibrate: bool = option(False, "Put the zero of the scale at the lowest confident value.", "Scale")
    max_box: int | None = option(
        None,
        "Estimate larger maps on a coarser grid of at most this side [default: native size].",
        "Scale",
        "voxels",
    )
    bfactor: bool = option(
        False, "Write a map of relative B-factors, and one of their standard errors.", "Scale"
    )
    hedge: float = option(1.0, "Power of the confidence; above 1 weak density is trusted less.", "Solvent")
    fdr: float | None = option(
        None,
        "Write a mask of the content in which this share of the voxels is expected to be solvent (0.01).",
        "Solvent",
    )


@dataclass(frozen=True)
class Modification:
    """How a map is modified by its scale; see `Settings`."""

    exclude_solvent: bool = option(
        False, "Leave out what is not confidently content, with modifications or alone.", "Solvent"
    )
    use_confidence: bool = option(
        True,
        "Weight modifications by confidence.",
        "Solvent",
        flags=("--use-confidence/--ignore-confidence",),
    )
    amplify: float | None = option(
        None, "Write a map with weak content amplified: power above 1, large values equalise.", "Modification"
    )
    attenuate: float | None = option(
        None, "Write a map with weak content attenuated: power above 1.", "Modification"
    )
    sigmoid: float | None = option(
        None, "Write a map amplified above the pivot and attenuated below it: power above 1.", "Modification"
    )
    pivot: float = option(0.5, "Scale that the sigmoid leaves as it is.", "Modification")
    scale_limit: float = option(0.05, "Scale below which nothing is modified.", "Modification")
    lowpass_output: float | None = option(None, "Low-pass the modified maps.", "Modification", "Å")
    match_histogram: bool = option(False, "Give modified maps the grey values of the input.", "Modification")
    seed: int = option(0, "Seed of the noise that attenuation puts in.", "Run")


@dataclass(frozen=True)
class Reading:
    """What is read with a map, besides the map; see `occupy.inputs.InputFiles`."""

    solvent_mask: Path | None = option(None, "Mask of solvent or content, to help the solvent fit.")
    target_mask: Path | None = option(None, "Mask of a part whose occupancy is wanted.")
    half_maps: tuple[Path, Path] | None = option(
        None,
        "Independent halves, for the noise [default: found beside the map by their names].",
        metavar="A B",
    )
    # --find-half-maps and --no-half-maps are what 0.1.0 called it.
    neighbours: bool = option(
        True,
        "Take half-maps that lie beside the map, and say so.",
        flags=("--neighbours/--no-neighbours", "--find-half-maps/--no-half-maps"),
    )
    voxel_size: float | None = option(None, "Å per voxel, in place of the header's.")


@dataclass(frozen=True)
class Output:
    """What is written of an estimate, besides its maps."""

    plot: bool = option(False, "Draw slices, solvent fit and modification curve.", "Output")
    figure_width: Literal["one", "two"] | None = option(
        None, "Draw a figure for a paper, one or two columns wide (89 or 183 mm).", "Output"
    )
    report: bool = option(False, "Write a page with everything, for any browser, offline.", "Output")
    intermediate: bool = option(
        False, "Write the low-passed map too.", "Output", flags=("--save-intermediate",)
    )
    output_voxel: Literal["map", "coarse"] = option(
        "map",
        "Voxels of scale, confidence, occupancy and uncertainty: those of the map, or the larger ones that "
        "the low-pass allows (small files; modified maps keep the map's).",
        "Output",
    )
    level: float | None = option(None, "Contour level for ChimeraX, in map units.", "Output")
    # What the script of OccuPy 0.1.13 did not show; asked for by its flags only.
    minimum_scale: float = option(0.0, "Smallest scale that the ChimeraX script shows.")


@dataclass(frozen=True)
class Settings(Modification, Estimation):
    """What the user asks for. ``None`` means: choose for me.

    Attributes
    ----------
    mode : {"occupancy", "resolution"}
        Scale of the low-passed map, or of the map as it is.
    estimator : {"calibrated", "local", "nlf"}, optional
        ``calibrated`` takes off what noise adds, finds full scale in the histogram of the local maxima, and
        states an uncertainty. ``nlf`` repeats the published program voxel by voxel; ``local`` is the same
        statistic with a centred low-pass filter and an interpolated confidence. By default calibrated, but
        local in resolution mode and where a setting of the tile's full scale is given (``tile_size``,
        ``tau``, ``naive``, ``recalibrate``).
    resolution : float, optional
        Worst resolution of the content, in Å.
    lowpass : float, optional
        Low-pass resolution in Å.
    kernel_size : int, optional
        Side of the footprint in voxels (odd).
    kernel_radius : float, optional
        Radius of the footprint in voxels.
    tau : float, optional
        Quantile level, between 0 and 1.
    tile_size : int or str, optional
        Side of a tile: a whole number of voxels, or a length such as ``"40A"``.
    naive : bool
        Full scale from the highest value of the map instead of a tile.
    recalibrate : bool
        Put the zero of the scale at the lowest confident value.
    hedge : float
        Power of the confidence, at least 1.
    fdr : float, optional
        False-discovery rate of a mask of the content, between 0 and 1.
    bfactor : bool
        Find relative B-factors too.
    scale_limit : float
        Scale below which nothing is modified.
    amplify, attenuate, sigmoid : float, optional
        Powers (above 1) of the modifications to make.
    pivot : float
        Scale that the sigmoid leaves as it is.
    exclude_solvent : bool
        Leave out, instead of keeping, what is not confidently content.
    use_confidence : bool
        Weight modifications by confidence; without it, every voxel is modified in full.
    lowpass_output : float, optional
        Low-pass resolution of modified maps in Å.
    match_histogram : bool
        Give modified maps the grey values of the input.
    max_box : int, optional
        Larger maps are estimated on a coarser grid of at most this side.
    seed : int
        Of the noise that attenuation puts in.
    threads : int, optional
        Threads to use.
    """

    threads: int | None = option(None, "Threads [default: all cores where the map is large enough].", "Run")

    @property
    def chosen_estimator(self) -> Estimator:
        """The estimator these settings mean."""
        if self.estimator is not None:
            return self.estimator
        tile = self.naive or self.recalibrate or self.tile_size is not None or self.tau is not None
        return "local" if tile or self.mode == "resolution" else "calibrated"

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        changed = (f for f in fields(self) if getattr(self, f.name) != f.default)
        return f"Settings({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in changed)})"


def with_keywords(settings: Settings | None, keywords: Mapping[str, Any]) -> Settings:
    """Return settings with those that were named singly.

    Raises
    ------
    TypeError
        For a name that no setting has, with the nearest that one has.
    """
    known = [each.name for each in fields(Settings)]
    for name in keywords:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise TypeError(f"no setting is called {name!r}" + f"; did you mean {near[0]}?" * len(near))
    return replace(settings or Settings(), **keywords)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    return float(value)


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    return value


def _check_types(s: Settings) -> None:
    """Raise TypeError for a switch that is not True or False, or a number that is none."""
    for each in fields(s):
        value = getattr(s, each.name)
        if each.type == "bool" and not isinstance(value, bool):
            raise TypeError(f"{each.name} must be True or False, not {value!r}")
        if value is None and "None" in str(each.type):
            continue
        if each.type in ("int", "int | None"):
            _whole(value, each.name)
        if each.type in ("float", "float | None"):
            _number(value, each.name)


def _check(s: Settings) -> None:
    """Raise InputError for a value out of range, TypeError for one of the wrong type."""
    _check_types(s)
    _check_estimator(s)
    for name in ("resolution", "lowpass", "lowpass_output", "kernel_radius"):
        value = getattr(s, name)
        _require(
            value is None or (math.isfinite(value) and value > 0), f"{name} must be positive, not {value}"
        )
    if s.kernel_size is not None:
        _require(
            s.kernel_size % 2 == 1 and 1 <= s.kernel_size <= 31,
            f"kernel size must be an odd number of voxels from 1 to 31, not {s.kernel_size}",
        )
    for name in ("tau", "fdr"):
        share = getattr(s, name)
        _require(share is None or 0 < share < 1, f"{name} must lie between 0 and 1, not {share}")
    _check_modification(s)
    _require(1 <= s.hedge < math.inf, f"hedge must be at least 1, not {s.hedge}")
    for name, least in (("max_box", 32), ("threads", 1)):
        number = getattr(s, name)
        words = name.replace("_", " ")
        _require(number is None or number >= least, f"{words} must be at least {least}, not {number}")
    if s.tile_size is not None:
        parse_tile(s.tile_size)


def _check_estimator(s: Settings) -> None:
    _require(s.mode in MODES, f"mode must be one of {', '.join(MODES)}, not {s.mode!r}")
    _require(
        not s.bfactor or s.chosen_estimator == "calibrated",
        f"relative B-factors need the calibrated estimator, not {s.chosen_estimator}",
    )
    _require(
        s.estimator is None or s.estimator in ESTIMATORS,
        f"estimator must be one of {', '.join(ESTIMATORS)}, not {s.estimator!r}",
    )
    given = s.naive or s.recalibrate or s.tile_size is not None or s.tau is not None
    _require(
        s.estimator != "calibrated" or (not given and s.mode == "occupancy"),
        "the calibrated estimator knows no tile, tau, naive full scale, recalibration or resolution "
        "mode; choose local or nlf, or leave the estimator open",
    )


def _check_modification(s: Settings) -> None:
    for name in ("amplify", "attenuate", "sigmoid"):
        value = getattr(s, name)
        if value is not None:
            # Infinite amplification is equalisation; the other two have no such limit that means anything.
            most = math.inf if name == "amplify" else 1e6
            _require(value >= 1, f"{name} must be at least 1, not {value}")
            _require(value <= most, f"{name} must be at most {most:g}, not {value}")
    _require(0 < s.pivot < 1, f"pivot must lie between 0 and 1, not {s.pivot}")
    _require(0 <= s.scale_limit <= 1, f"scale limit must lie from 0 to 1, not {s.scale_limit}")
    _require(s.seed >= 0, f"seed must not be negative, not {s.seed}")


def parse_tile(text: int | str) -> tuple[float, bool]:
    """Read a tile side: ``12`` or ``"12"`` are voxels, ``"40A"`` and ``"40 Å"`` are ångström.

    Returns
    -------
    side : float
        The number.
    physical : bool
        Whether it is in Å.
    """
    match = re.fullmatch(r"\s*(\d{1,6}(?:\.\d*)?)\s*(A|Å|a|angstrom|px|vox|voxels)?\s*", str(text))
    if match is None or float(match[1]) <= 0:
        raise InputError(
            f"tile size must be a number of voxels (12) or a length in ångström (40A), not {text!r}"
        )
    physical = match[2] in ("A", "Å", "a", "angstrom")
    if not physical and float(match[1]) != int(float(match[1])):
        raise InputError(
            f"tile size in voxels must be a whole number, not {text!r} (for ångström write {text}A)"
        )
    return float(match[1]), physical
