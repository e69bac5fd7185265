"""Sharp low-pass filters by pruned, separable Fourier transforms in slabs, and Fourier resampling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import (
    VOXELS_IN_CACHE,
    for_each_slab,
    large_empty,
    one_blas_thread,
    planes_per_slab,
    scratch,
)

Shape = tuple[int, int, int]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class FourierBand:
    """The Fourier coefficients a filter keeps, in the layout of `numpy.fft.rfftn`.

    Attributes
    ----------
    shape : tuple of int
        The map (nz, ny, nx).
    rows : tuple of two ndarrays of int
        Indices kept along z and y.
    columns : int
        Coefficients kept along x: 0 … columns − 1.
    keep : ndarray of bool, shape (len(rows[0]), len(rows[1]), columns)
        Which of these survive.
    """

    shape: Shape
    rows: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
    columns: int
    keep: npt.NDArray[np.bool_]

    @classmethod
    def published(cls, shape: Shape, shells: tuple[int, int, int]) -> FourierBand:
        """Keep the window of coefficients that OccuPy 0.1.13 was observed to keep.

        With ``s`` shells: indices −s … s − 1 along z and y, 0 … s along x, and of these the ones whose
        distance from (−½, −½, +½) is at most s + 1. It is off the origin by half a Fourier voxel;
        `FourierBand.sphere` is not. Measured by dividing the transforms of its output and of white noise
        given to it.

        Parameters
        ----------
        shape : tuple of int
            The map (nz, ny, nx).
        shells : tuple of int
            ⌊n·a/d⌋ per axis (z, y, x), at most n // 2.
        """
        s = [min(int(k), n // 2) for k, n in zip(shells, shape, strict=True)]
        k = [_signed(n) for n in shape[:2]]
        rows = tuple(
            np.flatnonzero((i >= -m) & (i < max(m, 1))).astype(np.intp) for i, m in zip(k, s[:2], strict=True)
        )
        columns = min(s[2], shape[2] // 2) + 1
        z, y = ((i[r] + 0.5) / (m + 1) for i, r, m in zip(k, rows, s[:2], strict=True))
        x = (np.arange(columns) - 0.5) / (s[2] + 1)
        r2 = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x**2
        return cls(shape, (rows[0], rows[1]), columns, r2 <= 1 + 1e-9)

    @classmethod
    def sphere(cls, shape: Shape, radius: Triple) -> FourierBand:
        """Keep the coefficients within an ellipsoid around the origin.

        Parameters
        ----------
        shape : tuple of int
            The map (nz, ny, nx).
        radius : tuple of float
            Semi-axes in Fourier voxels (z, y, x): n·a/d for a cut-off of d Å with voxels of a Å. The bound
            itself is kept.
        """
        k = [_signed(n) for n in shape[:2]] + [np.arange(shape[2] // 2 + 1)]
        scaled = [(i / r) ** 2 for i, r in zip(k, radius, strict=True)]
        rows = tuple(np.flatnonzero(s <= 1 + 1e-9).astype(np.intp) for s in scaled[:2])
        columns = int(np.count_nonzero(scaled[2] <= 1 + 1e-9))
        r2 = scaled[0][rows[0]][:, None, None] + scaled[1][rows[1]][None, :, None] + scaled[2][:columns]
        return cls(shape, (rows[0], rows[1]), columns, r2 <= 1 + 1e-9)


def _signed(n: int) -> npt.NDArray[np.int_]:
    """Return the signed frequency index of each coefficient of an FFT of length n."""
    index = np.arange(n)
    return np.where(index < (n + 1) // 2, index, index - n)


@cache
def _twiddle(n: int, columns: int) -> npt.NDArray[np.complex64]:
    """Return exp(−2πi k/n) for k = 0 … columns − 1."""
    return np.asarray(np.exp(-2j * np.pi * np.arange(columns) / n), dtype=np.complex64)


@cache
def _matrices(n: int, columns: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the first ``columns`` rows of a real transform, and of its inverse, as matrices.

    Real and imaginary parts alternate, so that products are complex arrays as they lie in memory.
    """
    phase = 2 * np.pi * (np.outer(np.arange(n), np.arange(columns)) % n) / n
    forward = np.stack([np.cos(phase), -np.sin(phase)], axis=2)
    inverse = forward * (np.where(np.arange(columns) == 0, 1, 2) / n)[:, None]
    return (
        forward.reshape(n, 2 * columns).astype(np.float32),
        np.ascontiguousarray(inverse.reshape(n, 2 * columns).T, dtype=np.float32),
    )


def _are_few(columns: int, half: int, most: int = 80) -> bool:
    """Whether a matrix product for so many coefficients per line is cheaper than a transform; measured."""
    return columns <= min(most, half)


def _rfft_kept(slab: npt.NDArray[np.float32], columns: int) -> npt.NDArray[np.complex64]:
    """Return the first ``columns`` coefficients of a real transform along the last axis.

    Few coefficients are a matrix product. Otherwise, for an even length n, it is a complex transform of
    length n/2: neighbouring values are taken as real and imaginary part (no copy), and the two interleaved
    transforms are taken apart for the coefficients kept only. NumPy's own real transform of float32 is
    several times slower. The result is this thread's scratch array.
    """
    nz, ny, n = slab.shape
    half = n // 2
    shape = (nz, ny, columns)
    if _are_few(columns, half):
        product = scratch("rfft", (nz * ny, 2 * columns))
        np.matmul(slab.reshape(-1, n), _matrices(n, columns)[0], out=product)
        return product.view(np.complex64).reshape(shape)
    if n % 2 or columns > half:
        return np.asarray(np.fft.rfft(slab, axis=2)[..., :columns], dtype=np.complex64)
    z = np.fft.fft(slab.view(np.complex64), axis=2, out=scratch("half", (nz, ny, half), np.complex64))
    front, back = z[..., :columns], scratch("rfft", shape, np.complex64)
    np.conj(z[..., :1], out=back[..., :1])
    np.conj(z[..., : half - columns : -1], out=back[..., 1:])
    odd = np.subtract(front, back, out=scratch("odd", shape, np.complex64))
    odd *= np.complex64(-0.5j) * _twiddle(n, columns)
    back += front
    back *= np.float32(0.5)
    back += odd
    return back


def _irfft_from(part: npt.NDArray[np.complex64], out: npt.NDArray[np.float32]) -> None:
    """Write the real array whose first coefficients along the last axis are ``part`` into ``out``.

    The counterpart of `_rfft_kept`; the coefficients not given are zero.

    Parameters
    ----------
    part : ndarray of complex64, shape (nz, ny, columns)
        First coefficients.
    out : ndarray of float32, shape (nz, ny, n), contiguous
        Receives the result.
    """
    nz, ny, n = out.shape
    columns, half = part.shape[2], n // 2
    if _are_few(columns, half):
        rows = np.ascontiguousarray(part).view(np.float32).reshape(nz * ny, 2 * columns)
        np.matmul(rows, _matrices(n, columns)[1], out=out.reshape(-1, n))
        return
    if n % 2 or columns > half:
        out[...] = np.fft.irfft(part, n=n, axis=2)
        return
    z = scratch("half", (nz, ny, half), np.complex64)
    z[..., columns:] = 0
    odd = np.multiply(
        part,
        (1j * np.conj(_twiddle(n, columns))).astype(np.complex64),
        out=scratch("odd", part.shape, np.complex64),
    )
    np.add(part, odd, out=z[..., :columns])
    np.subtract(part, odd, out=odd)
    np.conj(odd, out=odd)
    z[..., : half - columns : -1] += odd[..., 1:]
    # What irfft ignores: the imaginary part of the mean.
    z[..., 0] = part[..., 0].real * np.complex64(1 + 1j)
    np.fft.ifft(z, axis=2, out=out.view(np.complex64))
    out *= np.float32(0.5)


@one_blas_thread()
def _spectrum_in_band(
    data: npt.NDArray[np.floating], band: FourierBand, *, threads: int = 1
) -> npt.NDArray[np.complex64]:
    """Transform a map, computing only the coefficients within a band.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        The map; read slab by slab and converted to float32 on the way.
    band : FourierBand
        What to keep.
    threads : int, default 1
        Threads to use.

    Returns
    -------
    ndarray of complex64, shape ``band.keep.shape``
        Unnormalised coefficients, zero where the band does not keep them.
    """
    nz = band.shape[0]
    part = np.empty((nz, len(band.rows[1]), band.columns), dtype=np.complex64)

    def in_plane(start: int, stop: int) -> None:
        slab = np.ascontiguousarray(data[start:stop], dtype=np.float32)
        along_x = _rfft_kept(slab, band.columns)
        along_y = np.fft.fft(along_x, axis=1, out=scratch("along y", along_x.shape, np.complex64))
        np.take(along_y, band.rows[1], axis=1, out=part[start:stop], mode="clip")

    for_each_slab(in_plane, nz, planes_per_slab(band.shape), threads)
    out = np.empty(band.keep.shape, dtype=np.complex64)

    def along_z(start: int, stop: int) -> None:
        columns = part[:, start:stop]
        found = np.fft.fft(columns, axis=0, out=scratch("along z", columns.shape, np.complex64))
        np.take(found, band.rows[0], axis=0, out=out[:, start:stop], mode="clip")
        out[:, start:stop] *= band.keep[:, start:stop]

    for_each_slab(along_z, part.shape[1], max(1, VOXELS_IN_CACHE // max(1, nz * band.columns)), threads)
    return out


@one_blas_thread()
def _map_from_band(
    spectrum: npt.NDArray[np.complex64], band: FourierBand, *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Return the map (float32, shape ``band.shape``) whose coefficients in the band are ``spectrum``."""
    nz, ny, _ = band.shape
    part = np.empty((nz, len(band.rows[1]), band.columns), dtype=np.complex64)

    def along_z(start: int, stop: int) -> None:
        full = scratch("along z", (nz, stop - start, band.columns), np.complex64)
        full.fill(0)
        full[band.rows[0]] = spectrum[:, start:stop]
        part[:, start:stop] = np.fft.ifft(full, axis=0, out=full)

    for_each_slab(along_z, part.shape[1], max(1, VOXELS_IN_CACHE // max(1, nz * band.columns)), threads)
    out = large_empty(band.shape)

    def in_plane(start: int, stop: int) -> None:
        full = scratch("along y", (stop - start, ny, band.columns), np.complex64)
        full.fill(0)
        full[:, band.rows[1]] = part[start:stop]
        np.fft.ifft(full, axis=1, out=full)
        _irfft_from(full, out[start:stop])

    for_each_slab(in_plane, nz, planes_per_slab(band.shape), threads)
    return out


def lowpass(
    data: npt.NDArray[np.floating], band: FourierBand, *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Keep only the coefficients of ``data`` that lie in ``band``; float32, same shape."""
    return _map_from_band(_spectrum_in_band(data, band, threads=threads), band, threads=threads)


def lowpass_onto(
    data: npt.NDArray[np.floating], shape: Shape, radius: Triple, *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Low-pass a map onto another grid over the same extent, finer or coarser.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        The map.
    shape : tuple of int
        The new shape.
    radius : tuple of float
        Semi-axes of the coefficients kept, in Fourier voxels, as for `FourierBand.sphere`.

    Returns
    -------
    ndarray of float32, shape ``shape``
        Values keep their scale (the mean is unchanged). Sample (0, 0, 0) stays where it was.
    """
    old = (int(data.shape[0]), int(data.shape[1]), int(data.shape[2]))
    # Nyquist coefficients of an even side have no partner of the other sign.
    most = [(min(n, o) - 1) // 2 + 0.5 for n, o in zip(shape, old, strict=True)]
    reach = [min(r, m) for r, m in zip(radius, most, strict=True)]
    source = FourierBand.sphere(old, (reach[0], reach[1], reach[2]))
    rows = [(_signed(o)[k] % n).astype(np.intp) for o, k, n in zip(old, source.rows, shape, strict=False)]
    spectrum = _spectrum_in_band(data, source, threads=threads)
    spectrum *= np.float32(np.prod(shape) / np.prod(old))
    target = FourierBand(shape, (rows[0], rows[1]), source.columns, source.keep)
    return _map_from_band(spectrum, target, threads=threads)


def fourier_crop(
    data: npt.NDArray[np.floating], shape: Shape, *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Resample a map to a smaller grid over the same extent by cropping its transform.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        The map.
    shape : tuple of int
        The new shape, no larger along any axis.

    Returns
    -------
    ndarray of float32, shape ``shape``
        Values keep their scale (the mean is unchanged). Sample (0, 0, 0) stays where it was.
    """
    old = (int(data.shape[0]), int(data.shape[1]), int(data.shape[2]))
    if any(new > o or new < 1 for new, o in zip(shape, old, strict=True)):
        raise ValueError(f"cannot crop a map of {old} to {shape}")
    # Nyquist coefficients of an even target are left out: they have no partner of the other sign.
    reach = [(n - 1) // 2 for n in shape]
    kept = [_signed(o)[np.abs(_signed(o)) <= r] for o, r in zip(old[:2], reach[:2], strict=True)]
    keep = np.ones((len(kept[0]), len(kept[1]), reach[2] + 1), dtype=bool)

    def band(of: Shape) -> FourierBand:
        rows = [(k % n).astype(np.intp) for k, n in zip(kept, of[:2], strict=True)]
        return FourierBand(of, (rows[0], rows[1]), reach[2] + 1, keep)

    source, target = band(old), band(shape)
    spectrum = _spectrum_in_band(data, source, threads=threads)
    spectrum *= np.float32(np.prod(shape) / np.prod(old))
    return _map_from_band(spectrum, target, threads=threads)
