"""Central slices of volumes at the poses of particles, by linear interpolation in Fourier space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import sparse

Array = npt.NDArray[np.float64]
Pairs = npt.NDArray[np.float32]
"""Complex numbers as real and imaginary part along the last axis or the last but one."""

_PADDING = 2
"""Oversampling of Fourier space; with the gridding correction, slices are right to better than 1 %."""


@dataclass(frozen=True, eq=False)
class Band:
    """Fourier coefficients of an image that are used: one of each Friedel pair, in an annulus.

    Attributes
    ----------
    k_xy : ndarray of int64, shape (M, 2)
        Frequencies x, y in units of one over the image's side.
    shell : ndarray of int64, shape (M,)
        Index of the shell, from 0 for the lowest that is used; never falling.
    first : int
        Frequency of shell 0.
    side : float
        Side of the image in Å.
    """

    k_xy: npt.NDArray[np.int64]
    shell: npt.NDArray[np.int64]
    first: int
    side: float

    def __len__(self) -> int:
        return len(self.k_xy)

    @property
    def shells(self) -> int:
        """Number of shells."""
        return int(self.shell[-1]) + 1

    @property
    def last(self) -> int:
        """Highest frequency."""
        return self.first + self.shells - 1

    @property
    def frequency_xy(self) -> Array:
        """Spatial frequencies x, y in 1/Å, shape (M, 2)."""
        return np.asarray(self.k_xy / self.side)

    @property
    def shell_frequency(self) -> Array:
        """Spatial frequency of each shell in 1/Å."""
        return np.asarray((self.first + np.arange(self.shells)) / self.side)

    def down_to(self, resolution: float) -> Band:
        """Coarser part of the band: its first coefficients, at least three shells of them."""
        if resolution * self.last <= self.side:
            return self
        kept = int(np.searchsorted(self.shell, max(3, int(self.side / resolution) - self.first + 1)))
        return replace(self, k_xy=self.k_xy[:kept], shell=self.shell[:kept])


def band_between(side: float, longest: float, shortest: float) -> Band:
    """Choose the coefficients between two resolutions (Å) of images of a side (Å), sorted by shell."""
    first, last = max(1, round(side / longest)), int(side / shortest)
    x, y = np.meshgrid(np.arange(last + 1), np.arange(-last, last + 1))
    radius = np.rint(np.hypot(x, y)).astype(np.int64)
    used = (radius >= first) & (radius <= last) & ((x > 0) | (y > 0))
    order = np.argsort(radius[used], kind="stable")
    k_xy = np.stack([x[used], y[used]], axis=1)[order].astype(np.int64)
    return Band(k_xy, radius[used][order] - first, first, side)


def coefficients_of(images: npt.NDArray[np.float32], band: Band, shifts: Array) -> Pairs:
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
    ndarray of float32, shape (N, M, 2)
    """
    from scipy.fft import fft, rfft

    size = images.shape[-1]
    x, y = band.k_xy.T
    # Only the columns that are used go through the second transform, along memory.
    columns = rfft(images, axis=2)[:, :, : int(x.max()) + 1]
    spectra = fft(np.ascontiguousarray(columns.transpose(0, 2, 1)), axis=2).reshape(len(images), -1)
    used = np.take(spectra, x * size + y % size, axis=1).astype(np.complex64, copy=False)
    pairs = used.view(np.float32).reshape(*used.shape, 2)
    centre = size // 2 * band.side / size
    return displaced(pairs, band, shifts - centre)


def displaced(coefficients: Pairs, band: Band, shifts: Array) -> Pairs:
    """Coefficients (N, M, 2) after particles were moved by shifts (N, 2) in Å."""
    along = -2j * np.pi / band.side * np.arange(-band.last, band.last + 1)
    turn_x, turn_y = np.exp(along * shifts.T[:, :, None]).astype(np.complex64)
    x, y = band.k_xy.T + band.last
    turn = np.take(turn_x, x, axis=1) * np.take(turn_y, y, axis=1)
    moved = np.multiply(coefficients.view(np.complex64)[:, :, 0], turn, dtype=np.complex64)
    return np.asarray(moved.view(np.float32).reshape(coefficients.shape))


def rotations(angles: Array) -> Array:
    """Return the matrices (N, 3, 3) that take volume to image coordinates for RELION's rot, tilt, psi (°)."""
    rot, tilt, psi = np.radians(angles).T
    return _about_z(psi) @ _about_y(tilt) @ _about_z(rot)


def _about_z(angle: Array) -> Array:
    """Rotations by −`angle` (radians) about z, as matrices (N, 3, 3)."""
    cos, sin, zero, one = np.cos(angle), np.sin(angle), 0 * angle, 1 + 0 * angle
    rows = [[cos, sin, zero], [-sin, cos, zero], [zero, zero, one]]
    return np.moveaxis(np.array(rows), 2, 0)


def _about_y(angle: Array) -> Array:
    """Rotations by `angle` (radians) about y that take z towards −x, as matrices (N, 3, 3)."""
    cos, sin, zero, one = np.cos(angle), np.sin(angle), 0 * angle, 1 + 0 * angle
    rows = [[cos, zero, -sin], [zero, one, zero], [sin, zero, cos]]
    return np.moveaxis(np.array(rows), 2, 0)


@dataclass(frozen=True, eq=False)
class FourierVolumes:
    """Oversampled transforms of several volumes, as far as a band needs them.

    Attributes
    ----------
    values : ndarray of float32, shape (2 reach + 1, 2 reach + 1, reach + 2, 2, C)
        z, y, x (from −1 on), real or imaginary part, volume.
    reach : int
        Largest index along each axis.
    """

    values: Pairs
    reach: int

    @property
    def count(self) -> int:
        """Number of volumes."""
        return int(self.values.shape[4])

    def of(self, chosen: npt.NDArray[np.bool_]) -> FourierVolumes:
        """Return some of the volumes."""
        return FourierVolumes(np.ascontiguousarray(self.values[..., chosen]), self.reach)


@dataclass(frozen=True, eq=False)
class Plane:
    """Where the central slices of some images lie in transforms that reach equally far.

    Attributes
    ----------
    weights : sparse array, shape (N M, grid points)
        Trilinear weights of the eight neighbours of each point.
    signs : ndarray of float32, shape (N M,)
        −1 where the conjugate is stored.
    shape : tuple of int
        N, M.
    """

    weights: sparse.csr_array
    signs: npt.NDArray[np.float32]
    shape: tuple[int, int]

    def of(self, volumes: FourierVolumes, factor: npt.NDArray[np.float32]) -> Pairs:
        """Slices of volumes times a real factor (N, M): (N, M, 2, C), real and imaginary parts."""
        flat = volumes.values.reshape(-1, 2 * volumes.count)
        found = (self.weights @ flat).reshape(-1, 2, volumes.count)
        scale = np.broadcast_to(factor, self.shape).reshape(-1)
        found *= np.stack([scale, scale * self.signs], axis=1)[:, :, None]
        return np.asarray(found.reshape(*self.shape, 2, volumes.count))

    def back(self, values: npt.NDArray[np.float32]) -> Array:
        """Put values of the slices where they came from: the adjoint of slicing, without a factor.

        Parameters
        ----------
        values : ndarray of float32, shape (N, M, 2) or (N, M)
            Complex numbers, or real ones.

        Returns
        -------
        ndarray of float64, shape (grid points, 2) or (grid points,)
        """
        flat = values.reshape(len(self.signs), -1)
        if values.ndim == 3:
            flat = flat * np.stack([np.ones_like(self.signs), self.signs], axis=1)
        return np.asarray((self.weights.T @ flat).reshape(-1, *values.shape[2:]), dtype=np.float64)


def plane_of(k_xy: npt.NDArray[np.int64], matrices: Array, volumes: FourierVolumes) -> Plane:
    """Central slices through transforms.

    Parameters
    ----------
    k_xy : ndarray of int64, shape (M, 2)
        Frequencies in units of one over the side.
    matrices : ndarray of float64, shape (N, 3, 3)
        From `rotations`.
    volumes : FourierVolumes
        Any of those that are to be sliced.
    """
    # The rows of the matrix are the image's axes in the volume.
    axes = (_PADDING * matrices[:, :2, :]).astype(np.float32)
    points = (k_xy.astype(np.float32) @ axes).reshape(-1, 3)
    signs = np.where(points[:, 0] < 0, np.float32(-1), np.float32(1))
    weights = _weights(points * signs[:, None], volumes)
    return Plane(weights, signs, (len(matrices), len(k_xy)))


def _weights(points_xyz: npt.NDArray[np.float32], volumes: FourierVolumes) -> sparse.csr_array:
    _, ny, nx, _, _ = volumes.values.shape
    floor = np.floor(points_xyz)
    beyond = points_xyz - floor
    x, y, z = floor.astype(np.int32).T
    start = ((z + volumes.reach) * ny + (y + volumes.reach)) * nx + x + 1
    steps = np.array(
        [(dz * ny + dy) * nx + dx for dz in (0, 1) for dy in (0, 1) for dx in (0, 1)], dtype=np.int32
    )
    x_pair, y_pair, z_pair = (np.stack([1 - b, b], axis=1) for b in beyond.T)
    plane = y_pair[:, :, None] * x_pair[:, None, :]
    weights = z_pair[:, :, None, None] * plane[:, None]
    indices = start[:, None] + steps
    pointers = np.arange(0, 8 * len(start) + 1, 8, dtype=np.int32)
    shape = (len(start), volumes.values.shape[0] * ny * nx)
    return sparse.csr_array((weights.ravel(), indices.ravel(), pointers), shape=shape)


def fourier_volumes(volumes_zyx: Sequence[npt.NDArray[np.float32]], last: int) -> FourierVolumes:
    """Transform volumes for slicing.

    Parameters
    ----------
    volumes_zyx : sequence of ndarray of float32, shape (m, m, m)
        Centre at voxel m // 2.
    last : int
        Highest frequency, in units of one over the side, that slices will ask for; below m / 2.

    Returns
    -------
    FourierVolumes
    """
    reach = _PADDING * last + 1
    values = np.empty((2 * reach + 1, 2 * reach + 1, reach + 2, 2, len(volumes_zyx)), dtype=np.float32)
    for number, volume in enumerate(volumes_zyx):
        spectrum = _transform(volume, reach)
        values[..., 0, number], values[..., 1, number] = spectrum.real, spectrum.imag
    return FourierVolumes(values, reach)


def empty_volumes(last: int) -> FourierVolumes:
    """Return the grid of `fourier_volumes` without volumes."""
    reach = _PADDING * last + 1
    return FourierVolumes(np.empty((2 * reach + 1, 2 * reach + 1, reach + 2, 2, 0), dtype=np.float32), reach)


def back_transformed(values: Array, weights: Array, grid: FourierVolumes, regular: float) -> Pairs:
    """Return the volume whose slices, times weights, were put back on a grid.

    Parameters
    ----------
    values : ndarray of float64, shape (grid points, 2)
        From `Plane.back`.
    weights : ndarray of float64, shape (grid points,)
        Of squared factors of the slices.
    grid : FourierVolumes
        The grid.
    regular : float
        Share of a shell's mean weight that is added to its weights.

    Returns
    -------
    ndarray of float32, shape (m, m, m)
        Centre at voxel m // 2.
    """
    from scipy.fft import irfftn

    reach = grid.reach
    both = np.column_stack([values, weights]).reshape(*grid.values.shape[:3], 3)[:, :, 1:]
    # Of each pair of conjugates on the plane x = 0 either may have been met.
    mirrored = both[::-1, ::-1, 0] * np.array([1, -1, 1])
    both[:, :, 0] += mirrored
    z, y, x = np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, np.arange(reach + 1), indexing="ij")
    shell = np.rint(np.sqrt(z**2 + y**2 + x**2)).astype(np.int64)
    mean = np.bincount(shell.ravel(), both[..., 2].ravel()) / np.bincount(shell.ravel())
    ratio = both[..., :2] / np.maximum(both[..., 2] + regular * mean[shell], 1e-30)[..., None]
    size = 2 * (reach - 1) // _PADDING + 2
    padded = _PADDING * size
    spectrum = np.zeros((padded, padded, padded // 2 + 1), dtype=np.complex64)
    rows = np.arange(-reach, reach + 1) % padded
    spectrum[np.ix_(rows, rows, np.arange(reach + 1))] = ratio[..., 0] + 1j * ratio[..., 1]
    cube = np.roll(irfftn(spectrum, s=(padded,) * 3), (size // 2,) * 3, axis=(0, 1, 2))[:size, :size, :size]
    along = np.sinc((np.arange(size) - size // 2) / padded) ** 2
    return np.asarray(cube / (along[:, None, None] * along[:, None] * along), dtype=np.float32)


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


def _transform(volume: npt.NDArray[np.float32], reach: int) -> npt.NDArray[np.complex64]:
    from scipy.fft import rfftn

    size = len(volume)
    padded = _PADDING * size
    along = (np.arange(size) - size // 2) / padded
    # Linear interpolation multiplies the volume by sinc² along each axis; this takes it back.
    correction = (1 / np.sinc(along) ** 2).astype(np.float32)
    corrected = volume * correction[:, None, None] * correction[:, None] * correction
    cube = np.zeros((padded,) * 3, dtype=np.float32)
    cube[:size, :size, :size] = corrected
    cube = np.roll(cube, (-(size // 2),) * 3, axis=(0, 1, 2))
    spectrum = rfftn(cube)
    rows = np.arange(-reach, reach + 1)
    # The column at x = −1 is the conjugate of the one at +1.
    columns = spectrum[np.ix_(rows % padded, rows % padded, np.arange(reach + 1))]
    before = spectrum[np.ix_(-rows % padded, -rows % padded, np.array([1]))].conj()
    return np.concatenate([before, columns], axis=2).astype(np.complex64)
