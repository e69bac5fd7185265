"""Maps of several kinds and any size, made quickly: input for speed measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy import Volume, write_map

KINDS = ("particle", "filament", "shell")


def smooth_noise(n: int, passes: int, seed: int) -> npt.NDArray[np.float32]:
    """Return noise of unit variance, smoothed by ``passes`` three-point means along every axis."""
    field = np.random.default_rng(seed).standard_normal((n, n, n), dtype=np.float32)
    for _ in range(passes):
        for axis in range(3):
            field += np.roll(field, 1, axis) + np.roll(field, -1, axis)
    field /= field.std()
    return field


def make_map(kind: str, n: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return a map of n³ voxels: textured content, half of it at half occupancy, in coloured noise."""
    g = (np.arange(n, dtype=np.float32) - n / 2) / n
    z, y, x = g[:, None, None], g[None, :, None], g[None, None, :]
    if kind == "particle":
        inside = z * z + y * y + x * x < 0.26**2
    elif kind == "filament":
        inside = np.broadcast_to(y * y + x * x < 0.12**2, (n, n, n))
    elif kind == "shell":
        r2 = z * z + y * y + x * x
        inside = (r2 < 0.36**2) & (r2 > 0.28**2)
    else:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    content = np.clip(6 + 3 * smooth_noise(n, 2, seed), 0, None) * inside
    content[n // 2 :] *= np.float32(0.5)
    return np.asarray(content + smooth_noise(n, 1, seed + 1), dtype=np.float32)


def write_benchmark_map(folder: Path, kind: str, n: int, voxel_size: float = 1.06) -> Path:
    """Write the map of a kind and size into a folder (once) and return its path."""
    path = folder / f"{kind}_{n}.mrc"
    if not path.exists():
        write_map(path, Volume.from_array(make_map(kind, n), voxel_size, path.stem))
    return path
