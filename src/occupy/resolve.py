"""What the settings mean for one map: every number, none left open."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from occupy import tuning
from occupy.errors import InputError, Notice
from occupy.numerics.histogram import tau_of
from occupy.numerics.morphology import ball_footprint, box_of_ball
from occupy.numerics.parallel import threads_worth_having
from occupy.settings import Estimator, Mode, Settings, parse_tile

Triple = tuple[float, float, float]
IntTriple = tuple[int, int, int]


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
        Working grid: that of the low-pass for the calibrated estimator; otherwise the map's own but with
        ``max_box``.
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
    bfactor: bool
    hedge: float
    scale_limit: float
    amplify: float | None
    attenuate: float | None
    sigmoid: float | None
    pivot: float
    exclude_solvent: bool
    fdr: float | None
    use_confidence: bool
    lowpass_output: float | None
    match_histogram: bool
    seed: int
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for a record."""
        return asdict(self)

    def notices(self, voxel_size: Triple) -> list[Notice]:
        """Return what is doubtful about the settings for a map of that voxel size (Å).

        Raises
        ------
        InputError
            Where they can't be right.
        """
        extent = min(n * a for n, a in zip(self.shape, self.voxel_size, strict=True))
        if extent < self.lowpass:
            raise InputError(
                f"the low-pass of {self.lowpass:g} Å is longer than the box ({extent:.3g} Å): is the voxel "
                "size right?"
            )
        # The map's own voxels: the grid that is worked on may be finer.
        finest = 2 * max(voxel_size)
        fine = [
            Notice(
                "fine-lowpass",
                f"the low-pass of {self.lowpass:g} Å is finer than the voxels allow: those of "
                f"{finest / 2:.4g} Å hold no details below {finest:.4g} Å; "
                f"give --lowpass {finest:.4g} or more",
            )
        ] * (self.lowpass < finest * (1 - 1e-3))
        if extent >= 5 * self.lowpass:
            return fine
        return [
            *fine,
            Notice(
                "small-box",
                f"the box is only {extent:.0f} Å wide, {extent / self.lowpass:.1f} low-pass resolutions: too "
                "little for a scale relative to full; give a whole map, or a finer --lowpass",
            ),
        ]


def _working_grid(shape: IntTriple, voxel_size: Triple, max_box: int | None) -> tuple[IntTriple, Triple]:
    """Return shape and voxel size of the grid the estimate is made on.

    Without ``max_box``, or in a smaller map, that is the map's own; otherwise every axis shrinks by the
    same factor (to a whole even number of voxels).
    """
    if max_box is None or max(shape) <= max_box:
        return shape, voxel_size
    # Whole-number division: n · (max_box / n) may fall short of max_box by rounding.
    small = [max(2, 2 * (n * max_box // (2 * max(shape)))) if n > 1 else 1 for n in shape]
    size = [a * n / m for a, n, m in zip(voxel_size, shape, small, strict=True)]
    return (small[0], small[1], small[2]), (size[0], size[1], size[2])


def _grid_of_lowpass(
    shape: IntTriple, voxel_size: Triple, lowpass: float, max_box: int | None
) -> tuple[IntTriple, Triple]:
    """Return the grid that a low-pass needs, whatever the map's own: the same voxels in every map.

    So an estimate costs what the content costs, and a neighbourhood always holds the same number of voxels.
    """
    voxel = lowpass / tuning.MAP.grid
    sides = [_fast_even(n * a / voxel) if n > 1 else 1 for n, a in zip(shape, voxel_size, strict=True)]
    size = [a * n / m for a, n, m in zip(voxel_size, shape, sides, strict=True)]
    return _working_grid((sides[0], sides[1], sides[2]), (size[0], size[1], size[2]), max_box)


def _fast_even(least: float) -> int:
    """Return the smallest even number not below ``least`` with no prime factor above 7: fast to transform."""
    n = 2 * math.ceil(max(least, 2) / 2 - 1e-6)
    while 210**20 % n:
        n += 2
    return n


def resolve(settings: Settings, shape: IntTriple, voxel_size: Triple) -> ResolvedSettings:
    """Decide everything the user left open, for a map of this shape and voxel size.

    Parameters
    ----------
    settings : Settings
        What the user set.
    shape : tuple of int
        The map (sections, rows, columns).
    voxel_size : tuple of float
        Å per voxel along the same axes.
    """
    grid, size = _working_grid(shape, voxel_size, settings.max_box)
    lowpass = _lowpass(settings, max(size))
    if settings.chosen_estimator == "calibrated":
        grid, size = _grid_of_lowpass(shape, voxel_size, lowpass, settings.max_box)
    kernel_size, kernel_radius = _kernel(settings, lowpass, size)
    voxels = int(ball_footprint(kernel_radius, kernel_size).sum())
    decided: dict[str, Any] = {
        "estimator": settings.chosen_estimator,
        "lowpass": lowpass,
        "kernel_size": kernel_size,
        "kernel_radius": kernel_radius,
        "kernel_voxels": voxels,
        "tau": tau_of(voxels) if settings.tau is None else settings.tau,
        "tile_size": _tile(settings, lowpass, grid, size),
        "shape": grid,
        "voxel_size": size,
        "threads": threads_worth_having(math.prod(shape)) if settings.threads is None else settings.threads,
    }
    # Everything else holds as the user set it.
    kept = {f.name: getattr(settings, f.name) for f in fields(ResolvedSettings) if f.name not in decided}
    return ResolvedSettings(**kept, **decided)


def _lowpass(settings: Settings, voxel: float) -> float:
    least = tuning.MAP.lowpass if settings.chosen_estimator == "calibrated" else 8.0
    chosen = max(least, 3.0 * voxel) if settings.lowpass is None else settings.lowpass
    return max(chosen, settings.resolution or 0.0)


def _kernel(settings: Settings, lowpass: float, size: Triple) -> tuple[IntTriple, Triple]:
    def side(voxel: float) -> int:
        if settings.kernel_size is not None:
            return settings.kernel_size
        if settings.chosen_estimator == "calibrated":
            return min(31, box_of_ball(radius(voxel)))
        # A division that should be whole must not fall short by rounding (8 Å / 1.6 Å).
        return min(9, max(3, 2 * (int(lowpass / voxel + 1e-6) // 2) + 1))

    def radius(voxel: float) -> float:
        if settings.kernel_radius is not None:
            return settings.kernel_radius
        if settings.chosen_estimator == "calibrated":
            # Never more voxels where a small box has a finer grid than it needs.
            wanted = tuning.MAP.radius * max(1.0, lowpass / tuning.MAP.lowpass) / voxel
            return min(max(1.0, wanted), tuning.MAP.most_voxels)
        return lowpass / (2 * voxel)

    sides, radii = [side(a) for a in size], [radius(a) for a in size]
    return (sides[0], sides[1], sides[2]), (radii[0], radii[1], radii[2])


def _tile(settings: Settings, lowpass: float, shape: IntTriple, size: Triple) -> IntTriple:
    # A low-pass beyond what the grid holds must not shrink the tile to nothing.
    # Five low-pass resolutions hold about 125 independent elements of the map, enough for their quantile to
    # be a property of the structure and not of one side chain; see docs/explanation/scale.md.
    wanted, physical = 5.0 * max(lowpass, 2 * max(size)), True
    if settings.tile_size is not None:
        wanted, physical = parse_tile(settings.tile_size)
    sides = [round(wanted / a) if physical else int(wanted) for a in size]
    # A tile larger than a third of the box would hold solvent whatever the particle.
    if settings.tile_size is None:
        sides = [min(t, n // 3) for t, n in zip(sides, shape, strict=True)]
    fitted = [max(1, min(t, n)) for t, n in zip(sides, shape, strict=True)]
    return fitted[0], fitted[1], fitted[2]
