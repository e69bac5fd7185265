"""Are the classes of a set where they should be? Shifts and rotations against the mean of the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from occupy import tuning
from occupy.ensemble.execution import Execution
from occupy.ensemble.scaling import ScaledMaps
from occupy.errors import Notice
from occupy.numerics.parallel import one_blas_thread

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Pose:
    """How a map lies against a reference: shift (Å), rotation (degrees), correlation once both are undone."""

    shift: float
    angle: float
    agreement: float


@one_blas_thread()
def _pose_of(data: Array, reference: Array, voxel_size: tuple[float, float, float]) -> _Pose:
    """Find how a map is shifted and turned against a reference of the same content.

    A whole-voxel shift is found by cross-correlation; then the difference is fitted by the reference's
    derivatives along six rigid motions and its grey scale, exact for motions much smaller than the
    resolution.

    Parameters
    ----------
    data, reference : ndarray, shape (z, y, x)
    voxel_size : tuple of float
        Å along z, y, x.
    """
    shape = reference.shape
    cross = scipy.fft.irfftn(scipy.fft.rfftn(data) * np.conj(scipy.fft.rfftn(reference)), s=shape)
    peak = np.array(np.unravel_index(int(np.argmax(cross)), shape))
    whole = np.where(peak > np.array(shape) // 2, peak - np.array(shape), peak)
    moved = np.roll(data, tuple(-whole), axis=(0, 1, 2))
    # The grey scale is fitted too: a weaker class must not read as one that moved.
    design = _motions(reference, voxel_size)
    # Where the reference is weak, a part that this class lacks would count as motion.
    inside = reference > 0.25 * float(np.quantile(reference, 0.995))
    rows = design[:, inside]
    target = moved[inside]
    normal = rows @ rows.T
    # A round particle turns without changing: a ridge keeps such motions at 0.
    fit = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(7), rows @ target)
    residual = target - fit @ rows
    agreement = 1 - float(residual.var() / max(float(target.var()), 1e-30))
    gain = fit[0] if abs(fit[0]) > 1e-6 else 1e-6
    shift = whole * np.array(voxel_size) - fit[1:4] / gain
    return _Pose(
        float(np.linalg.norm(shift)),
        float(np.degrees(np.linalg.norm(fit[4:] / gain))),
        float(np.sqrt(max(agreement, 0.0))),
    )


def _motions(reference: Array, voxel_size: tuple[float, float, float]) -> Array:
    """Return the reference and its derivatives along shifts (per Å) and rotations (per radian)."""
    slopes = np.gradient(reference, *voxel_size)
    axes = np.meshgrid(
        *(np.arange(n) * a for n, a in zip(reference.shape, voxel_size, strict=True)), indexing="ij"
    )
    weight = np.maximum(reference, 0)
    centre = np.array([float((x * weight).sum() / max(float(weight.sum()), 1e-30)) for x in axes])
    z, y, x = (axis - c for axis, c in zip(axes, centre, strict=True))
    dz, dy, dx = slopes
    turns = (y * dx - x * dy, x * dz - z * dx, z * dy - y * dz)
    return np.array([reference, dz, dy, dx, *turns], dtype=np.float32)


def pose_notices(
    scaled: ScaledMaps,
    names: tuple[str, ...],
    weights: npt.NDArray[np.float64],
    execution: Execution | None = None,
) -> list[Notice]:
    """Return notices about classes that are shifted, turned or unlike the mean of the others."""
    found = []
    poses = (execution or Execution()).each("alignment", _pose_one, (scaled, weights), len(names))
    for name, pose in zip(names, poses, strict=True):
        text = None
        if pose.agreement < tuning.COMPONENTS.least_agreement:
            text = (
                f"{name} hardly agrees with the other classes (correlation {pose.agreement:.2f}): "
                "another hand, orientation or particle?"
            )
        elif (
            pose.shift > max(tuning.COMPONENTS.most_shift, scaled.resolution / 5)
            or pose.angle > tuning.COMPONENTS.most_angle
        ):
            text = (
                f"{name} lies {pose.shift:.1f} Å and {pose.angle:.1f}° away from the other classes: "
                "align them first, for example with fitmap in ChimeraX"
            )
        if text:
            found.append(Notice("misaligned", text + "; its occupancies can't be trusted"))
    return found


def _pose_one(shared: tuple[ScaledMaps, npt.NDArray[np.float64]], k: int) -> _Pose:
    scaled, weights = shared
    one = scaled.maps[k]
    rest = np.float32(max(1 - weights[k], 1e-6))
    others = (scaled.total - np.float32(weights[k]) * one) / rest
    return _pose_of(one, np.asarray(others, dtype=np.float32), scaled.voxel_size)
