"""How well maps describe particles they were not made from: likelihood at known poses, by central slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from occupy.io.star import StarTable, read_star

FIRST_SHELL = 2
"""Coarser shells hold the background of image and map, which normalisation and masks decide."""

SOFT = 5.0
"""Pixels; edge of the circle that is cut out of an image."""

Reals = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Images:
    """Particles as coefficients of a disc in Fourier space.

    Attributes
    ----------
    names : tuple of str
        Of the particles.
    data : ndarray of complex64, shape (particles, coefficients)
        Centred, masked, divided by the standard deviation of their shell over all particles.
    transfer : ndarray of float32, same shape
        Contrast transfer, divided alike.
    directions : ndarray of float32, shape (particles, 3, 3)
        Rows x, y, z: the image's axes in the map.
    points : ndarray of int, shape (coefficients, 2)
        Indices kx, ky.
    """

    names: tuple[str, ...]
    data: npt.NDArray[np.complex64]
    transfer: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    points: npt.NDArray[np.intp]


def read_images(star: Path, finest: float, diameter: float) -> Images:
    """Read particles up to ``finest`` Å; the stack lies beside the STAR file."""
    blocks = read_star(star)
    table, optics = blocks["particles"], blocks["optics"]
    pixel = optics.numbers("rlnImagePixelSize")[0]
    with mrcfile.mmap(star.with_name("particles.mrcs"), mode="r", permissive=True) as opened:
        stack = opened.data
    n = stack.shape[-1]
    points, shell = disc(n, n * pixel / finest)
    names = table.column("rlnImageName")
    shifts = np.array([table.numbers(f"rlnOrigin{axis}Angst") for axis in "XY"]).T / pixel
    circle = _circle(n, diameter / 2 / pixel)
    data = np.empty((len(names), len(points)), dtype=np.complex64)
    for i, name in enumerate(names):
        data[i] = _coefficients(stack[int(name.split("@")[0]) - 1], shifts[i], circle, points)
    deviation = np.sqrt(np.bincount(shell, (np.abs(data) ** 2).mean(axis=0)) / _count(shell))[shell]
    transfer = contrast(table, optics, points / (n * pixel))
    angles = [np.radians(table.numbers(f"rlnAngle{name}")) for name in ("Rot", "Tilt", "Psi")]
    return Images(
        names,
        (data / deviation).astype(np.complex64),
        (transfer / deviation).astype(np.float32),
        directions(*angles),
        points,
    )


def disc(n: int, reach: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return indices (kx, ky) of half a disc, and their shells."""
    last = min(int(reach), n // 2 - 1)
    ky, kx = np.mgrid[-last : last + 1, : last + 1]
    shell = np.rint(np.hypot(ky, kx)).astype(np.intp)
    inside = (shell >= FIRST_SHELL) & (shell <= last) & ((kx > 0) | (ky > 0))
    return np.stack([kx[inside], ky[inside]], axis=1), shell[inside]


def _count(shell: npt.NDArray[np.intp]) -> Reals:
    return np.maximum(np.bincount(shell), 1)


def _circle(n: int, radius: float) -> Reals:
    y, x = np.mgrid[:n, :n] - n // 2
    outside = np.clip((np.hypot(y, x) - radius) / SOFT, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * outside))


def _coefficients(image: Reals, shift: Reals, circle: Reals, points: npt.NDArray[np.intp]) -> Any:
    """Transform one image, centred by its shift (x, y) in pixels."""
    n = len(image)
    whole = np.rint(shift).astype(int)
    centred = np.roll(image, (whole[1], whole[0]), (0, 1)) * circle
    transform = np.fft.rfft2(np.fft.ifftshift(centred))[points[:, 1], points[:, 0]]
    return transform * np.exp(-2j * np.pi / n * (points @ (shift - whole)))


def contrast(table: StarTable, optics: StarTable, frequency: Reals) -> Reals:
    """Return the contrast transfer function at frequencies (x, y) in 1/Å, as RELION defines it."""
    volts = 1000 * optics.numbers("rlnVoltage")[0]
    length = 12.2643247 / (volts * (1 + volts * 0.978466e-6)) ** 0.5
    spherical = 1e7 * optics.numbers("rlnSphericalAberration")[0]
    u, v, angle = (np.array(table.numbers(f"rlnDefocus{name}"))[:, None] for name in ("U", "V", "Angle"))
    square = (frequency**2).sum(axis=1)
    azimuth = np.arctan2(frequency[:, 1], frequency[:, 0]) - np.radians(angle)
    defocus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * azimuth)
    phase = np.pi * length * defocus * square - np.pi / 2 * spherical * length**3 * square**2
    return np.asarray(np.sin(phase + np.arcsin(optics.numbers("rlnAmplitudeContrast")[0])))


def directions(rot: Reals, tilt: Reals, psi: Reals) -> npt.NDArray[np.float32]:
    """Return the image's axes in the map for RELION's Euler angles (ZYZ, radians)."""

    def about_z(angle: Reals) -> Reals:
        c, s, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
        rows = [[c, s, zero], [-s, c, zero], [zero, zero, zero + 1]]
        return np.moveaxis(np.array(rows), -1, 0)

    c, s, zero = np.cos(tilt), np.sin(tilt), np.zeros_like(tilt)
    about_y = np.moveaxis(np.array([[c, zero, -s], [zero, zero + 1, zero], [s, zero, c]]), -1, 0)
    return np.asarray(about_z(psi) @ about_y @ about_z(rot), dtype=np.float32)


def project(data: npt.NDArray[np.float32], images: Images) -> npt.NDArray[np.complex64]:
    """Return central slices of a map for every particle, without contrast transfer."""
    n = len(data)
    padded = np.pad(data, n // 2)
    # Linear interpolation in Fourier space multiplies the map by sinc²; this takes it out beforehand.
    x = np.sinc((np.arange(2 * n) - n) / (2 * n)) ** 2
    corrected = padded / (x[:, None, None] * x[None, :, None] * x)
    last = int(np.abs(images.points).max()) + 2
    whole = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(corrected)))
    near = slice(n - 2 * last, n + 2 * last + 1)
    whole = whole[near, near, near]
    where = np.einsum("pa,iab->ipb", images.points, images.directions[:, :2])
    at = (2 * where[..., ::-1].reshape(-1, 3) + 2 * last).T
    values = ndimage.map_coordinates(whole.real, at, order=1) + 1j * ndimage.map_coordinates(
        whole.imag, at, order=1
    )
    return np.asarray(values.reshape(len(images.data), -1), dtype=np.complex64)


def likelihoods(maps: list[npt.NDArray[np.float32]], images: Images) -> npt.NDArray[np.float64]:
    """Return each particle's log-likelihood gain by each map, shape (particles, maps).

    Noise is normal and independent; a gain is that over an image of nothing but noise. All maps share one
    grey scale, the one with which they together describe the images best.
    """
    cross, power = [], []
    for data in maps:
        expected = project(data, images) * images.transfer
        cross.append(np.einsum("ic,ic->i", images.data, expected.conj()).real)
        power.append(np.einsum("ic,ic->i", expected, expected.conj()).real)
    x, p = np.array(cross, dtype=np.float64).T, np.array(power, dtype=np.float64).T
    scale = x.sum() / p.sum()
    for _ in range(20):  # Particles count where they are most likely.
        best = (2 * scale * x - scale**2 * p).argmax(axis=1)
        rows = np.arange(len(x))
        scale = x[rows, best].sum() / p[rows, best].sum()
    # Half a transform holds every independent value; its real and imaginary parts have half the variance.
    return np.asarray(2 * scale * x - scale**2 * p)


def mixture(gains: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the log-likelihood gain of a mixture of maps in equal parts, per particle."""
    most = gains.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(gains - most).mean(axis=1)) + most[:, 0])
