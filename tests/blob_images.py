"""Images of Gaussian parts by an exact projection: no interpolation is in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from occupy.particles.images import Ctf, ParticleImages, transfer

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]
Places = Sequence[tuple[float, float, float]]

SIZE, PIXEL = 32, 6.0
CENTRES = ((0, 0, 0), (38, 10, 0), (-20, 36, 12), (0, -30, -34))
WIDTHS = (14.0, 8.0, 8.0, 8.0)
NAMES = ("core", "one", "two", "three")
STATES = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 0, 1]], dtype=bool)


class Stack:
    """Images in memory."""

    def __init__(self, images: npt.NDArray[np.float32]) -> None:
        self.images = images

    def read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return self.images[rows]


def blobs(
    size: int, side: float, centres: Places = CENTRES, widths: Sequence[float] = WIDTHS
) -> npt.NDArray[np.float32]:
    """Gaussian parts, on a cube whose centre is voxel size // 2."""
    along = (np.arange(size) - size // 2) * side / size
    z, y, x = np.meshgrid(along, along, along, indexing="ij")
    return np.stack(
        [
            np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / (2 * width**2))
            for (a, b, c), width in zip(centres, widths, strict=True)
        ]
    ).astype(np.float32)


def ctf_of(count: int, rng: np.random.Generator) -> Ctf:
    defocus = rng.uniform(8000, 20000, count)
    one = np.ones(count)
    return Ctf(defocus + 300, defocus, 40 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one)


def projected(
    bits: Bits,
    matrices: Array,
    noise: float,
    rng: np.random.Generator,
    centres: Places,
    widths: Sequence[float],
) -> ParticleImages:
    """Images of particles with these parts (N, C) at these poses."""
    count = len(bits)
    shifts = rng.normal(0, 4, (count, 2))
    ctf = ctf_of(count, rng)
    f = np.fft.fftfreq(SIZE, PIXEL)
    fx, fy = np.meshgrid(f[: SIZE // 2 + 1], f)
    frequency = np.stack([np.abs(fx).ravel(), fy.ravel()], axis=1)
    spectra = np.zeros((count, len(frequency)), dtype=complex)
    for part, (centre, width) in enumerate(zip(centres, widths, strict=True)):
        place = matrices[:, :2, :] @ np.array(centre)
        weight = bits[:, part] * (2 * np.pi * width**2) ** 1.5 / PIXEL**3
        shape = np.exp(-2 * (np.pi * width) ** 2 * (frequency**2).sum(axis=1))
        # The particle stands off the centre by minus its origin; pixel size // 2 is the centre.
        at = place - shifts + SIZE // 2 * PIXEL
        spectra += weight[:, None] * shape * np.exp(-2j * np.pi * at @ frequency.T)
    spectra *= transfer(ctf, frequency)[0]
    images = np.fft.irfft2(spectra.reshape(count, SIZE, SIZE // 2 + 1), s=(SIZE, SIZE))
    images += noise * rng.normal(size=images.shape)
    group = np.zeros(count, dtype=np.int64)
    return ParticleImages(Stack(images.astype(np.float32)), SIZE, PIXEL, matrices, shifts, ctf, group)


def off_by(matrices: Array, degrees: float, rng: np.random.Generator) -> Array:
    """Poses with errors about each axis."""
    errors = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=(len(matrices), 3)))
    return np.asarray(errors.as_matrix() @ matrices)
