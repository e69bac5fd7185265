"""Contrast transfer function of single images, as RELION defines it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


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


def wavelength(voltage: Array) -> Array:
    """Relativistic wavelength of electrons in Å for an acceleration voltage in kV (CODATA 2018)."""
    volts = 1e3 * np.asarray(voltage, dtype=np.float64)
    return np.asarray(12.264259661581 / np.sqrt(volts * (1 + 0.978475598e-6 * volts)))


def phase_per_defocus(ctf: Ctf, frequency_xy: Array) -> Array:
    """Return the derivative of the phase with respect to defocus in radians/Å: π λ s², shape (N, M)."""
    return np.asarray(np.pi * wavelength(ctf.voltage)[:, None] * (frequency_xy**2).sum(axis=1)[None, :])


def phase_of(ctf: Ctf, frequency_xy: Array) -> Array:
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
    squared = (frequency_xy**2).sum(axis=1)[None, :]
    direction = np.arctan2(frequency_xy[:, 1], frequency_xy[:, 0])[None, :]
    azimuth = direction - np.radians(ctf.angle)[:, None]
    mean, half = (ctf.defocus_u + ctf.defocus_v) / 2, (ctf.defocus_u - ctf.defocus_v) / 2
    defocus = mean[:, None] + half[:, None] * np.cos(2 * azimuth)
    length = wavelength(ctf.voltage)[:, None]
    spherical = 0.5 * np.pi * 1e7 * ctf.spherical_aberration[:, None] * length**3 * squared**2
    offset = np.radians(ctf.phase_shift) + np.arcsin(ctf.amplitude_contrast)
    return np.asarray(np.pi * length * defocus * squared - spherical + offset[:, None])


def transfer(ctf: Ctf, frequency_xy: Array) -> tuple[Array, Array]:
    """Contrast transfer function and its derivative with respect to defocus (1/Å), each of shape (N, M)."""
    phase = phase_of(ctf, frequency_xy)
    envelope = np.exp(-ctf.b_factor[:, None] / 4 * (frequency_xy**2).sum(axis=1)[None, :])
    return np.sin(phase) * envelope, np.cos(phase) * envelope * phase_per_defocus(ctf, frequency_xy)
