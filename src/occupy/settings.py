"""What the user said, and what that means for one map."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from occupy.errors import InputError
from occupy.numerics.morphology import ball_footprint
from occupy.numerics.parallel import available_cores
from occupy.numerics.quantiles import tau_of

Mode = Literal["occupancy", "resolution"]
Estimator = Literal["local", "nlf"]
Triple = tuple[float, float, float]
IntTriple = tuple[int, int, int]

MODES: tuple[Mode, ...] = ("occupancy", "resolution")
ESTIMATORS: tuple[Estimator, ...] = ("local", "nlf")
# A tile of five low-pass resolutions holds about 125 independent elements of the map, enough for its
# quantile to be a property of the structure and not of one side chain; see docs/explanation/scale.md.
TILE_IN_RESOLUTIONS = 5.0


@dataclass(frozen=True)
class Settings:
    """What the user asks for. ``None`` means: choose for me.

    Attributes
    ----------
    mode : {"occupancy", "resolution"}
        Scale of the low-passed map, or of the map as it is.
    estimator : {"local", "nlf"}
        ``nlf`` repeats the published program voxel by voxel; ``local`` is the same statistic with a
        centred low-pass filter and an interpolated confidence.
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

    mode: Mode = "occupancy"
    estimator: Estimator = "local"
    resolution: float | None = None
    lowpass: float | None = None
    kernel_size: int | None = None
    kernel_radius: float | None = None
    tau: float | None = None
    tile_size: int | str | None = None
    naive: bool = False
    recalibrate: bool = False
    hedge: float = 1.0
    scale_limit: float = 0.05
    amplify: float | None = None
    attenuate: float | None = None
    sigmoid: float | None = None
    pivot: float = 0.5
    exclude_solvent: bool = False
    use_confidence: bool = True
    lowpass_output: float | None = None
    match_histogram: bool = False
    max_box: int | None = None
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class ResolvedSettings:
    """The settings as they hold for one map: no ``None`` where a number is needed.

    Attributes
    ----------
    lowpass : float
        Å.
    kernel_size, kernel_radius : tuple
        Footprint per axis (sections, rows, columns) in voxels of the working grid.
    kernel_voxels : int
        Number of voxels in the footprint.
    tau : float
        Quantile level.
    tile_size : tuple of int
        Sides of a tile in voxels of the working grid.
    shape, voxel_size : tuple
        Working grid; differs from the map's own only with ``max_box``.
    """

    mode: Mode
    estimator: Estimator
    lowpass: float
    kernel_size: IntTriple
    kernel_radius: Triple
    kernel_voxels: int
    tau: float
    tile_size: IntTriple
    shape: IntTriple
    voxel_size: Triple
    naive: bool
    recalibrate: bool
    hedge: float
    scale_limit: float
    amplify: float | None
    attenuate: float | None
    sigmoid: float | None
    pivot: float
    exclude_solvent: bool
    use_confidence: bool
    lowpass_output: float | None
    match_histogram: bool
    seed: int
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for a record."""
        return asdict(self)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    return float(value)


def _check(s: Settings) -> None:
    """Raise InputError for a value out of range, TypeError for one of the wrong type."""
    _require(s.mode in MODES, f"mode must be one of {', '.join(MODES)}, not {s.mode!r}")
    _require(s.estimator in ESTIMATORS, f"estimator must be one of {', '.join(ESTIMATORS)}, not {s.estimator!r}")
    for name in ("resolution", "lowpass", "lowpass_output", "kernel_radius"):
        value = getattr(s, name)
        if value is not None:
            number = _number(value, name)
            _require(math.isfinite(number) and number > 0, f"{name} must be positive, not {value}")
    if s.kernel_size is not None:
        _require(
            s.kernel_size % 2 == 1 and 1 <= s.kernel_size <= 31,
            f"kernel size must be an odd number of voxels from 1 to 31, not {s.kernel_size}",
        )
    if s.tau is not None:
        _require(0 < _number(s.tau, "tau") < 1, f"tau must lie between 0 and 1, not {s.tau}")
    for name in ("amplify", "attenuate", "sigmoid"):
        value = getattr(s, name)
        if value is not None:
            number = _number(value, name)
            _require(number >= 1 and not math.isnan(number), f"{name} must be at least 1, not {value}")
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
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(A|Å|a|angstrom|px|vox|voxels)?\s*", str(text))
    if match is None or float(match[1]) <= 0:
        raise InputError(f"tile size must be a number of voxels (12) or a length in ångström (40A), not {text!r}")
    physical = match[2] in ("A", "Å", "a", "angstrom")
    if not physical and float(match[1]) != int(float(match[1])):
        raise InputError(f"tile size in voxels must be a whole number, not {text!r} (for ångström write {text}A)")
    return float(match[1]), physical


def working_grid(shape: IntTriple, voxel_size: Triple, max_box: int | None) -> tuple[IntTriple, Triple]:
    """Return shape and voxel size of the grid the estimate is made on.

    Without ``max_box``, or in a smaller map, that is the map's own; otherwise every axis shrinks by the
    same factor (to a whole even number of voxels).
    """
    if max_box is None or max(shape) <= max_box:
        return shape, voxel_size
    factor = max_box / max(shape)
    small = [max(2, 2 * int(n * factor / 2)) if n > 1 else 1 for n in shape]
    size = [a * n / m for a, n, m in zip(voxel_size, shape, small, strict=True)]
    return (small[0], small[1], small[2]), (size[0], size[1], size[2])


def resolve(settings: Settings, shape: IntTriple, voxel_size: Triple) -> ResolvedSettings:
    """Decide everything the user left open, for a map of this shape and voxel size.

    Parameters
    ----------
    settings : Settings
        What the user said.
    shape : tuple of int
        The map (sections, rows, columns).
    voxel_size : tuple of float
        Å per voxel along the same axes.
    """
    grid, size = working_grid(shape, voxel_size, settings.max_box)
    lowpass = _lowpass(settings, max(size))
    kernel_size, kernel_radius = _kernel(settings, lowpass, size)
    voxels = int(ball_footprint(kernel_radius, kernel_size).sum())
    return ResolvedSettings(
        mode=settings.mode,
        estimator=settings.estimator,
        lowpass=lowpass,
        kernel_size=kernel_size,
        kernel_radius=kernel_radius,
        kernel_voxels=voxels,
        tau=tau_of(voxels) if settings.tau is None else settings.tau,
        tile_size=_tile(settings, lowpass, grid, size),
        shape=grid,
        voxel_size=size,
        naive=settings.naive,
        recalibrate=settings.recalibrate,
        hedge=settings.hedge,
        scale_limit=settings.scale_limit,
        amplify=settings.amplify,
        attenuate=settings.attenuate,
        sigmoid=settings.sigmoid,
        pivot=settings.pivot,
        exclude_solvent=settings.exclude_solvent,
        use_confidence=settings.use_confidence,
        lowpass_output=settings.lowpass_output,
        match_histogram=settings.match_histogram,
        seed=settings.seed,
        threads=available_cores() if settings.threads is None else settings.threads,
    )


def _lowpass(settings: Settings, voxel: float) -> float:
    if settings.lowpass is not None:
        return settings.lowpass
    return max(8.0, 3.0 * voxel, settings.resolution or 0.0)


def _kernel(settings: Settings, lowpass: float, size: Triple) -> tuple[IntTriple, Triple]:
    def side(voxel: float) -> int:
        if settings.kernel_size is not None:
            return settings.kernel_size
        # A division that should be whole must not fall short by rounding (8 Å / 1.6 Å).
        return min(9, max(3, 2 * (int(lowpass / voxel + 1e-6) // 2) + 1))

    def radius(voxel: float) -> float:
        if settings.kernel_radius is not None:
            return settings.kernel_radius
        if settings.kernel_size is not None and settings.lowpass is None:
            return settings.kernel_size / 2
        return lowpass / (2 * voxel)

    sides, radii = [side(a) for a in size], [radius(a) for a in size]
    return (sides[0], sides[1], sides[2]), (radii[0], radii[1], radii[2])


def _tile(settings: Settings, lowpass: float, shape: IntTriple, size: Triple) -> IntTriple:
    wanted, physical = TILE_IN_RESOLUTIONS * lowpass, True
    if settings.tile_size is not None:
        wanted, physical = parse_tile(settings.tile_size)
    sides = [round(wanted / a) if physical else int(wanted) for a in size]
    # A tile larger than a third of the box would hold solvent whatever the particle.
    if settings.tile_size is None:
        sides = [min(t, n // 3) for t, n in zip(sides, shape, strict=True)]
    fitted = [max(1, min(t, n)) for t, n in zip(sides, shape, strict=True)]
    return fitted[0], fitted[1], fitted[2]
