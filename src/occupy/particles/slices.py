"""Central slices of volumes at the poses of particles, by linear interpolation in Fourier space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex64]

PADDING = 2
"""Oversampling of Fourier space; with the gridding correction, slices are right to better than 1 %."""


@dataclass(frozen=True, eq=False)
class Band:
    """Fourier coefficients of an image that are used: one of each Friedel pair, in an annulus.

    Attributes
    ----------
    k_xy : ndarray of int64, shape (M, 2)
        Frequencies x, y in units of one over the image's side.
    shell : ndarray of int64, shape (M,)
        Index of the shell, from 0 for the lowest that is used.
    first : int
        Frequency of shell 0.
    side : float
        Side of the image in Å.
    """

    k_xy: npt.NDArray[np.int64]
    shell: npt.NDArray[np.int64]
    first: int
    side: float

    @property
    def shells(self) -> int:
        """Number of shells."""
        return int(self.shell[-1]) + 1

    @property
    def frequency_xy(self) -> Array:
        """Spatial frequencies x, y in 1/Å, shape (M, 2)."""
        return np.asarray(self.k_xy / self.side)

    @property
    def shell_frequency(self) -> Array:
        """Spatial frequency of each shell in 1/Å."""
        return np.asarray((self.first + np.arange(self.shells)) / self.side)


def band_between(side: float, longest: float, shortest: float) -> Band:
    """Choose the coefficients between two resolutions (Å) of images of a side (Å), sorted by shell."""
    first, last = max(1, round(side / longest)), int(side / shortest)
    x, y = np.meshgrid(np.arange(last + 1), np.arange(-last, last + 1))
    radius = np.rint(np.hypot(x, y)).astype(np.int64)
    used = (radius >= first) & (radius <= last) & ((x > 0) | (y > 0))
    order = np.argsort(radius[used], kind="stable")
    k_xy = np.stack([x[used], y[used]], axis=1)[order].astype(np.int64)
    return Band(k_xy, radius[used][order] - first, first, side)


def coefficients_of(images: npt.NDArray[np.float32], band: Band, shifts: Array) -> Complex:
    """Fourier coefficients of images, with the particle moved to the origin.

    Parameters
    ----------
    images : ndarray of float32, shape (N, size, size)
        Rows are y, columns x.
    band : Band
        Which coefficients.
    shifts : ndarray of float64, shape (N, 2)
        x, y in Å to add to a particle's position so that its centre comes to pixel size // 2 (RELION's
        origin).

    Returns
    -------
    ndarray of complex64, shape (N, M)
    """
    size = images.shape[-1]
    x, y = band.k_xy.T
    # Only the columns that are used go through the second transform.
    columns = np.fft.rfft(images, axis=2)[:, :, : int(x.max()) + 1]
    spectra = np.fft.fft(columns, axis=1)[:, y, x]
    turns = (shifts @ band.k_xy.T) / band.side - (x + y) * (size // 2) / size
    return np.asarray(spectra * np.exp(-2j * np.pi * turns), dtype=np.complex64)


def rotations(angles: Array) -> Array:
    """Return the matrices (N, 3, 3) that take volume to image coordinates for RELION's rot, tilt, psi (°)."""
    rot, tilt, psi = np.radians(angles).T
    return about_z(psi) @ about_y(tilt) @ about_z(rot)


def about_z(angle: Array) -> Array:
    """Rotations by −`angle` (radians) about z, as matrices (N, 3, 3)."""
    cos, sin, zero, one = np.cos(angle), np.sin(angle), 0 * angle, 1 + 0 * angle
    rows = [[cos, sin, zero], [-sin, cos, zero], [zero, zero, one]]
    return np.moveaxis(np.array(rows), 2, 0)


def about_y(angle: Array) -> Array:
    """Rotations by `angle` (radians) about y that take z towards −x, as matrices (N, 3, 3)."""
    cos, sin, zero, one = np.cos(angle), np.sin(angle), 0 * angle, 1 + 0 * angle
    rows = [[cos, zero, -sin], [zero, one, zero], [sin, zero, cos]]
    return np.moveaxis(np.array(rows), 2, 0)


@dataclass(frozen=True, eq=False)
class FourierVolumes:
    """Oversampled transforms of several volumes, as far as a band needs them.

    Attributes
    ----------
    values : ndarray of complex64, shape (2 reach + 1, 2 reach + 1, reach + 2, C)
        z, y, x (from −1 on), volume.
    reach : int
        Largest index along each axis.
    """

    values: Complex
    reach: int

    @property
    def count(self) -> int:
        """Number of volumes."""
        return int(self.values.shape[3])

    def slices(self, k_xy: npt.NDArray[np.int64], matrices: Array) -> Complex:
        """Central slices.

        Parameters
        ----------
        k_xy : ndarray of int64, shape (M, 2)
            Frequencies in units of one over the side.
        matrices : ndarray of float64, shape (N, 3, 3)
            From `rotations`.

        Returns
        -------
        ndarray of complex64, shape (N, M, C)
        """
        # The rows of the matrix are the image's axes in the volume.
        points = PADDING * (k_xy @ matrices[:, :2, :]).reshape(-1, 3)
        flipped = points[:, 0] < 0
        points[flipped] *= -1
        flat = self.values.reshape(-1, self.count).view(np.float32)
        found = (self._weights(points) @ flat).view(np.complex64)
        found[flipped] = found[flipped].conj()
        return np.asarray(found.reshape(len(matrices), len(k_xy), self.count))

    def _weights(self, points_xyz: Array) -> sparse.csr_array:
        """Sparse matrix of the trilinear weights of the eight neighbours of each point."""
        _, ny, nx, _ = self.values.shape
        floor = np.floor(points_xyz)
        beyond = (points_xyz - floor).astype(np.float32)
        x, y, z = (floor.astype(np.int32) + np.array([1, self.reach, self.reach], dtype=np.int32)).T
        start = (z * ny + y) * nx + x
        steps = np.array([(dz * ny + dy) * nx + dx for dz in (0, 1) for dy in (0, 1) for dx in (0, 1)])
        low, high = 1 - beyond, beyond
        plane = np.stack([low[:, 1] * low[:, 0], low[:, 1] * high[:, 0], high[:, 1] * low[:, 0],
                          high[:, 1] * high[:, 0]], axis=1)  # fmt: skip
        weights = np.concatenate([plane * low[:, 2:], plane * high[:, 2:]], axis=1)
        indices = start[:, None] + steps.astype(np.int32)
        pointers = np.arange(0, 8 * len(start) + 1, 8, dtype=np.int32)
        shape = (len(start), self.values.shape[0] * ny * nx)
        return sparse.csr_array((weights.ravel(), indices.ravel(), pointers), shape=shape)


def fourier_volumes(volumes_zyx: Iterable[npt.NDArray[np.float32]], last: int) -> FourierVolumes:
    """Transform volumes for slicing.

    Parameters
    ----------
    volumes_zyx : iterable of ndarray of float32, shape (m, m, m)
        Centre at voxel m // 2.
    last : int
        Highest frequency, in units of one over the side, that slices will ask for; below m / 2.

    Returns
    -------
    FourierVolumes
    """
    reach = PADDING * last + 1
    return FourierVolumes(np.stack([_transform(each, reach) for each in volumes_zyx], axis=3), reach)


def cropped(volume_zyx: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Bring a cube to fewer (or more) voxels over the same side, in Fourier space.

    The centre, voxel n // 2, stays the centre.
    """
    old = len(volume_zyx)
    if old == size:
        return np.asarray(volume_zyx, dtype=np.float32)
    spectrum = np.fft.fftn(np.fft.ifftshift(volume_zyx))
    least = min(old, size)
    rows = np.arange(-((least - 1) // 2), (least - 1) // 2 + 1)
    out = np.zeros((size,) * 3, dtype=np.complex128)
    out[np.ix_(rows % size, rows % size, rows % size)] = spectrum[np.ix_(rows % old, rows % old, rows % old)]
    values = np.fft.fftshift(np.fft.ifftn(out).real) * (size / old) ** 3
    return np.asarray(values, dtype=np.float32)


def _transform(volume: npt.NDArray[np.float32], reach: int) -> Complex:
    size = len(volume)
    padded = PADDING * size
    along = (np.arange(size) - size // 2) / padded
    # Linear interpolation multiplies the volume by sinc² along each axis; this takes it back.
    correction = (1 / np.sinc(along) ** 2).astype(np.float32)
    corrected = volume * correction[:, None, None] * correction[:, None] * correction
    cube = np.zeros((padded,) * 3, dtype=np.float32)
    cube[:size, :size, :size] = corrected
    cube = np.roll(cube, (-(size // 2),) * 3, axis=(0, 1, 2))
    spectrum = np.fft.rfftn(cube)
    rows = np.arange(-reach, reach + 1)
    # The column at x = −1 is the conjugate of the one at +1.
    columns = spectrum[np.ix_(rows % padded, rows % padded, np.arange(reach + 1))]
    before = spectrum[np.ix_(-rows % padded, -rows % padded, np.array([1]))].conj()
    return np.concatenate([before, columns], axis=2).astype(np.complex64)
