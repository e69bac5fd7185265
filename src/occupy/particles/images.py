"""What the estimator needs to know of a set of particles, whatever program wrote it, and their CTF.

The contrast transfer function is RELION's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Real = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Ctf:
    """Parameters of the contrast transfer function, one value per image.

    Attributes
    ----------
    defocus_u, defocus_v : ndarray of float64, shape (N,)
        Å, underfocus positive.
    angle : ndarray of float64, shape (N,)
        Degrees from the x axis to the direction of `defocus_u`.
    voltage : ndarray of float64, shape (N,)
        kV.
    spherical_aberration : ndarray of float64, shape (N,)
        mm.
    amplitude_contrast : ndarray of float64, shape (N,)
        Fraction, 0 to 1.
    phase_shift : ndarray of float64, shape (N,)
        Degrees, of a phase plate.
    b_factor : ndarray of float64, shape (N,)
        Å².
    """

    defocus_u: Array
    defocus_v: Array
    angle: Array
    voltage: Array
    spherical_aberration: Array
    amplitude_contrast: Array
    phase_shift: Array
    b_factor: Array

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Ctf:
        return Ctf(*(getattr(self, each.name)[rows] for each in fields(self)))

    def __len__(self) -> int:
        return len(self.defocus_u)


def _wavelength(voltage: Array) -> Array:
    """Relativistic wavelength of electrons in Å for an acceleration voltage in kV (CODATA 2018)."""
    volts = 1e3 * np.asarray(voltage, dtype=np.float64)
    return np.asarray(12.264259661581 / np.sqrt(volts * (1 + 0.978475598e-6 * volts)))


def _phase_of(ctf: Ctf, frequency_xy: Array) -> Array:
    """Phase χ of the transfer function sin χ, in radians.

    Parameters
    ----------
    ctf : Ctf
        Of N images.
    frequency_xy : ndarray of float64, shape (M, 2)
        Spatial frequencies x, y in 1/Å.

    Returns
    -------
    ndarray of float64, shape (N, M)
        π λ z s² − (π/2) C_s λ³ s⁴ + phase shift + asin(amplitude contrast), with z the defocus in the
        direction of the frequency (Rohou & Grigorieff, J. Struct. Biol. 192, 216, 2015).
    """
    squared = (frequency_xy**2).sum(axis=1)
    twice = 2 * np.arctan2(frequency_xy[:, 1], frequency_xy[:, 0])
    angle = 2 * np.radians(ctf.angle)
    mean, half = (ctf.defocus_u + ctf.defocus_v) / 2, (ctf.defocus_u - ctf.defocus_v) / 2
    length = _wavelength(ctf.voltage)
    spherical = 0.5e7 * np.pi * ctf.spherical_aberration * length**3
    offset = np.radians(ctf.phase_shift) + np.arcsin(ctf.amplitude_contrast)
    # The cosine of a difference of angles, and all else, is linear in functions of the frequency alone.
    of_image = np.stack(
        [
            mean,
            half * np.cos(angle),
            half * np.sin(angle),
            -spherical / (np.pi * length),
            offset / (np.pi * length),
        ]
    )
    of_frequency = np.stack(
        [squared, squared * np.cos(twice), squared * np.sin(twice), squared**2, np.ones_like(squared)]
    )
    return np.asarray((np.pi * length * of_image).T @ of_frequency)


def transfer(ctf: Ctf, frequency_xy: Array) -> tuple[Real, Real]:
    """Contrast transfer function and its derivative with respect to defocus (1/Å).

    Parameters
    ----------
    ctf : Ctf
        Of N images.
    frequency_xy : ndarray of float64, shape (M, 2)
        Spatial frequencies x, y in 1/Å.

    Returns
    -------
    value, slope : ndarray of float32, shape (N, M)
    """
    squared = (frequency_xy**2).sum(axis=1)
    # Whole turns are taken off in double precision; sine and cosine are fast in single.
    turns = _phase_of(ctf, frequency_xy) / (2 * np.pi)
    phase = (2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    value, slope = np.sin(phase), np.cos(phase)
    slope *= (np.pi * _wavelength(ctf.voltage)[:, None] * squared).astype(np.float32)
    if ctf.b_factor.any():
        envelope = np.exp(-ctf.b_factor[:, None] / 4 * squared).astype(np.float32)
        value, slope = value * envelope, slope * envelope
    return value, slope


Images = npt.NDArray[np.float32]


class _ImageSource(Protocol):
    """Anything that returns images by their number."""

    def read(self, rows: npt.NDArray[np.int64]) -> Images:
        """Return images of the rows, shape (n, size, size); rows are y, columns x."""


@dataclass(frozen=True, eq=False)
class _Some:
    """Some images of a source."""

    source: _ImageSource
    rows: npt.NDArray[np.int64]

    def read(self, rows: npt.NDArray[np.int64]) -> Images:
        """Return images of the rows."""
        return self.source.read(self.rows[rows])


@dataclass(frozen=True, eq=False)
class ParticleImages:
    """Images at known poses.

    Attributes
    ----------
    source : ImageSource
        Returns images by their number.
    size : int
        Pixels along each side.
    pixel_size : float
        Å.
    matrices : ndarray of float64, shape (N, 3, 3)
        Rotations that take volume to image coordinates (`occupy.particles.slices.rotations`).
    shifts : ndarray of float64, shape (N, 2)
        x, y in Å that bring a particle to the centre of its image (RELION's origin).
    ctf : Ctf
        Of each image.
    group : ndarray of int64, shape (N,)
        Optics group of each image, from 0.
    particle : ndarray of int64, shape (N,), optional
        Which images are one and the same, as after symmetry expansion; by default none.
    half : ndarray of int64, shape (N,), optional
        0 or 1: which half of the data an image is in, where halves were refined apart.
    """

    source: _ImageSource
    size: int
    pixel_size: float
    matrices: npt.NDArray[np.float64]
    shifts: npt.NDArray[np.float64]
    ctf: Ctf
    group: npt.NDArray[np.int64]
    particle: npt.NDArray[np.int64] | None = None
    half: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.shifts)

    def of(self, rows: npt.NDArray[np.int64]) -> ParticleImages:
        """Return some of the images."""
        return ParticleImages(
            _Some(self.source, rows), self.size, self.pixel_size, self.matrices[rows], self.shifts[rows],
            self.ctf[rows], self.group[rows],
        )  # fmt: skip

    @property
    def side(self) -> float:
        """Side of an image in Å."""
        return self.size * self.pixel_size

    @property
    def groups(self) -> int:
        """Number of optics groups."""
        return int(self.group.max()) + 1
