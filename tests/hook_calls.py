"""Calls of RELION's external reconstruction, written by the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from occupy.io.mrc import read_map, write_map
from occupy.relion import hook
from occupy.volume import Volume

N = 32
SHELLS = 11


def call(
    folder: Path,
    iteration: int,
    number: int,
    data: np.ndarray,
    root: str = "run",
    half: str = "",
    current: int = 2 * SHELLS - 2,
) -> Path:
    """Write the files of one call as RELION 3.1 does, with a map as if it had reconstructed it."""
    stem = folder / f"{root}_it{iteration:03d}{half}_class{number:03d}_external_reconstruct"
    grid = np.zeros((N, N, N // 2 + 1), dtype=np.float32)
    k = np.fft.fftfreq(N) * N
    r = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.arange(N // 2 + 1) ** 2)
    grid[r < current / 2 + 0.5] = 100.0 if data.any() else 0.0
    write_map(f"{stem}_weight.mrc", Volume.from_array(grid, 1.0))
    # RELION's transforms are divided as those of images are, and interpolation costs sinc² of the radius.
    sums = np.fft.rfftn(np.fft.ifftshift(data * gridding(N))) / N**2 * grid
    write_map(f"{stem}_data_real.mrc", Volume.from_array(sums.real.astype(np.float32), 1.0))
    write_map(f"{stem}_data_imag.mrc", Volume.from_array(sums.imag.astype(np.float32), 1.0))
    write_map(f"{stem}.mrc", Volume.from_array(data, 1.0))
    rows = "".join(f"{i} 1.0 0.0\n" for i in range(N // 2 + 1))
    star = Path(f"{stem}.star")
    star.write_text(
        f"data_external_reconstruct_general\n\n_rlnExtReconsDataReal {stem}_data_real.mrc\n"
        f"_rlnExtReconsDataImag {stem}_data_imag.mrc\n_rlnExtReconsWeight {stem}_weight.mrc\n"
        f"_rlnExtReconsResult {stem}.mrc\n_rlnExtReconsResultStarfile {stem}_out.star\n"
        "_rlnTau2FudgeFactor 4.0\n_rlnPaddingFactor 1.0\n_rlnReferenceDimensionality 3\n"
        f"_rlnOriginalImageSize {N}\n_rlnCurrentImageSize {current}\n\n"
        "data_external_reconstruct_tau2\n\nloop_\n_rlnSpectralIndex\n_rlnReferenceTau2\n_rlnGoldStandardFsc\n"
        + rows
    )
    return star


def gridding(n: int, padding: int = 1) -> np.ndarray:
    """Return what trilinear interpolation multiplies a map by."""
    z, y, x = np.indices((n, n, n)) - n // 2
    return np.sinc(np.minimum(np.sqrt(x**2 + y**2 + z**2), n / 2) / (n * padding)) ** 2


def maps(seed: int = 0) -> list[np.ndarray]:
    """Return two classes: a shared ball, a blob in one of them, noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((N, N, N)) - N // 2
    ball = np.exp(-(x**2 + y**2 + z**2) / 50)
    blob = np.exp(-((x - 5) ** 2 + y**2 + z**2) / 8)
    return [(ball + s * blob + 0.05 * rng.normal(size=(N,) * 3)).astype(np.float32) for s in (0.0, 0.8)]


def result(star: Path) -> np.ndarray:
    return np.array(read_map(star.with_suffix(".mrc"), voxel_size=1.0).data)


def two_iterations(folder: Path) -> list[Path]:
    for number, data in enumerate(maps(0), 1):
        assert hook._run_hook([str(call(folder, 1, number, data))]) == 0
    return [call(folder, 2, number, data) for number, data in enumerate(maps(1), 1)]
