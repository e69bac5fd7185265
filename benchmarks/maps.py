"""Maps of several kinds and any size, made quickly: input for speed measurements."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy import Volume
from occupy.io.mrc import open_writer

KINDS = ("particle", "filament", "shell")


def smooth_noise(n: int, passes: int, seed: int) -> npt.NDArray[np.float32]:
    """Return noise of unit variance, smoothed by ``passes`` three-point means along every axis."""
    field = np.random.default_rng(seed).standard_normal((n, n, n), dtype=np.float32)
    for _ in range(passes):
        for axis in range(3):
            field += np.roll(field, 1, axis) + np.roll(field, -1, axis)
    field /= field.std()
    return field


@cache
def _textures(n: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return smooth texture and rougher noise; larger maps repeat those of 256³."""
    return smooth_noise(min(n, 256), 2, seed), smooth_noise(min(n, 256), 1, seed + 1)


def make_planes(kind: str, n: int, start: int, stop: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return planes of a map of n³ voxels: textured content, half of it at half occupancy, in noise.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    n, start, stop : int
        Side of the map and planes wanted.
    seed : int
        Of texture and noise.
    """
    g = (np.arange(n, dtype=np.float32) - n / 2) / n
    z, y, x = g[start:stop, None, None], g[None, :, None], g[None, None, :]
    if kind == "particle":
        inside = z * z + y * y + x * x < 0.26**2
    elif kind == "filament":
        inside = np.broadcast_to(y * y + x * x < 0.12**2, (stop - start, n, n))
    elif kind == "shell":
        r2 = z * z + y * y + x * x
        inside = (r2 < 0.36**2) & (r2 > 0.28**2)
    else:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    index = np.arange(n) % min(n, 256)
    texture, noise = (t[np.ix_(index[start:stop], index, index)] for t in _textures(n, seed))
    content = np.clip(6 + 3 * texture, 0, None) * inside
    content *= np.where(z < 0, np.float32(1), np.float32(0.5))
    return np.asarray(content + noise, dtype=np.float32)


def write_benchmark_map(folder: Path, kind: str, n: int, voxel_size: float = 1.06) -> Path:
    """Write the map of a kind and size into a folder (once), plane by plane, and return its path."""
    path = folder / f"{kind}_{n}.mrc"
    if not path.exists():
        # Only its shape and frame are looked at: no page of it is ever touched.
        grid = Volume(np.empty((n, n, n), dtype=np.float32), (voxel_size,) * 3)
        step = max(1, (1 << 22) // n**2)
        with open_writer(path, grid, "benchmark") as writer:
            for start in range(0, n, step):
                writer.write_planes(start, make_planes(kind, n, start, min(n, start + step)))
    return path
