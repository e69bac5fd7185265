"""What the user asks for. Plain Python without NumPy, so that the command line starts at once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from occupy.errors import InputError

Mode = Literal["occupancy", "resolution"]
Estimator = Literal["calibrated", "local", "nlf"]

MODES: tuple[Mode, ...] = ("occupancy", "resolution")
ESTIMATORS: tuple[Estimator, ...] = ("calibrated", "local", "nlf")


def _option(default: Any, panel: str, text: str, unit: str = "") -> Any:
    """Describe a setting once, for the command line, the web form and the record."""
    return field(default=default, metadata={"panel": panel, "help": text, "unit": unit})


@dataclass(frozen=True)
class Settings:
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

    mode: Mode = _option(
        "occupancy", "Scale", "Scale of the low-passed map (occupancy) or of the map as it is (resolution)."
    )
    estimator: Estimator | None = _option(
        None,
        "Scale",
        "Estimator; nlf repeats the published program voxel by voxel [default: calibrated; local in "
        "resolution mode or with a tile].",
    )
    resolution: float | None = _option(
        None, "Scale", "Worst resolution of the content; the low-pass is at least this.", "Å"
    )
    lowpass: float | None = _option(
        None, "Scale", "Low-pass resolution [default: 9 Å (nlf and local: 8 Å) or 3 voxels, the larger].", "Å"
    )
    kernel_size: int | None = _option(
        None,
        "Scale",
        "Side of the footprint's box, odd [default: from the radius or the low-pass].",
        "voxels",
    )
    kernel_radius: float | None = _option(
        None, "Scale", "Radius of the footprint [default: 5.6 Å; nlf and local: half the low-pass].", "voxels"
    )
    tau: float | None = _option(None, "Scale", "Quantile level of full scale [default: from the footprint].")
    tile_size: int | str | None = _option(
        None,
        "Scale",
        "Side of the tiles searched for full scale, voxels (12) or length (40A) [default: 5 low-passes].",
    )
    naive: bool = _option(False, "Scale", "Full scale from the map's maximum instead of a tile.")
    recalibrate: bool = _option(False, "Scale", "Put the zero of the scale at the lowest confident value.")
    max_box: int | None = _option(
        None,
        "Scale",
        "Estimate larger maps on a coarser grid of at most this side [default: native size].",
        "voxels",
    )
    bfactor: bool = _option(
        False, "Scale", "Write a map of relative B-factors, and one of their standard errors."
    )
    hedge: float = _option(1.0, "Solvent", "Power of the confidence; above 1 weak density is trusted less.")
    fdr: float | None = _option(
        None,
        "Solvent",
        "Write a mask of the content in which this share of the voxels is expected to be solvent (0.01).",
    )
    exclude_solvent: bool = _option(
        False, "Solvent", "Leave out what is not confidently content, with modifications or alone."
    )
    use_confidence: bool = _option(True, "Solvent", "Weight modifications by confidence.")
    amplify: float | None = _option(
        None, "Modification", "Write a map with weak content amplified: power above 1, large values equalise."
    )
    attenuate: float | None = _option(
        None, "Modification", "Write a map with weak content attenuated: power above 1."
    )
    sigmoid: float | None = _option(
        None, "Modification", "Write a map amplified above the pivot and attenuated below it: power above 1."
    )
    pivot: float = _option(0.5, "Modification", "Scale that the sigmoid leaves as it is.")
    scale_limit: float = _option(0.05, "Modification", "Scale below which nothing is modified.")
    lowpass_output: float | None = _option(None, "Modification", "Low-pass the modified maps.", "Å")
    match_histogram: bool = _option(False, "Modification", "Give modified maps the grey values of the input.")
    seed: int = _option(0, "Run", "Seed of the noise that attenuation puts in.")
    threads: int | None = _option(None, "Run", "Threads [default: all cores where the map is large enough].")

    @property
    def chosen_estimator(self) -> Estimator:
        """The estimator these settings mean."""
        if self.estimator is not None:
            return self.estimator
        tile = self.naive or self.recalibrate or self.tile_size is not None or self.tau is not None
        return "local" if tile or self.mode == "resolution" else "calibrated"

    def __post_init__(self) -> None:
        _check(self)


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
    _require(s.mode in MODES, f"mode must be one of {', '.join(MODES)}, not {s.mode!r}")
    _require(
        not s.bfactor or s.chosen_estimator == "calibrated",
        f"relative B-factors need the calibrated estimator, not {s.chosen_estimator}",
    )
    _require(
        s.estimator is None or s.estimator in ESTIMATORS,
        f"estimator must be one of {', '.join(ESTIMATORS)}, not {s.estimator!r}",
    )
    if s.estimator == "calibrated":
        given = s.naive or s.recalibrate or s.tile_size is not None or s.tau is not None
        _require(
            not given and s.mode == "occupancy",
            "the calibrated estimator knows no tile, tau, naive full scale, recalibration or resolution "
            "mode; choose local or nlf, or leave the estimator open",
        )
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
    if s.tau is not None:
        _require(0 < s.tau < 1, f"tau must lie between 0 and 1, not {s.tau}")
    if s.fdr is not None:
        _require(0 < s.fdr < 1, f"fdr must lie between 0 and 1, not {s.fdr}")
    for name in ("amplify", "attenuate", "sigmoid"):
        value = getattr(s, name)
        if value is not None:
            # Infinite amplification is equalisation; the other two have no such limit that means anything.
            most = math.inf if name == "amplify" else 1e6
            _require(value >= 1, f"{name} must be at least 1, not {value}")
            _require(value <= most, f"{name} must be at most {most:g}, not {value}")
    _require(0 < s.pivot < 1, f"pivot must lie between 0 and 1, not {s.pivot}")
    _require(1 <= s.hedge < math.inf, f"hedge must be at least 1, not {s.hedge}")
    _require(0 <= s.scale_limit <= 1, f"scale limit must lie from 0 to 1, not {s.scale_limit}")
    _require(s.max_box is None or s.max_box >= 32, f"max box must be at least 32, not {s.max_box}")
    _require(s.threads is None or s.threads >= 1, f"threads must be at least 1, not {s.threads}")
    _require(s.seed >= 0, f"seed must not be negative, not {s.seed}")
    if s.tile_size is not None:
        parse_tile(s.tile_size)


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
