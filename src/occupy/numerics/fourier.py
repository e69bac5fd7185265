"""Sharp low-pass filters by pruned, separable Fourier transforms in slabs, and Fourier resampling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from occupy.numerics.parallel import for_each_slab, planes_per_slab

Shape = tuple[int, int, int]
Triple = tuple[float, float, float]
# Larger slabs are handed back to the system after each step, and their pages cost more than the arithmetic.
_SLAB = 1 << 17


@dataclass(frozen=True)
class Band:
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


def _signed(n: int) -> npt.NDArray[np.int_]:
    """Return the signed frequency index of each coefficient of an FFT of length n."""
    index = np.arange(n)
    return np.where(index < (n + 1) // 2, index, index - n)


def sphere_band(shape: Shape, radius: Triple) -> Band:
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
    return Band(shape, (rows[0], rows[1]), columns, r2 <= 1 + 1e-9)


def published_band(shape: Shape, shells: tuple[int, int, int]) -> Band:
    """Keep the window of coefficients that OccuPy 0.1.13 was observed to keep.

    With ``s`` shells: indices −s … s − 1 along z and y, 0 … s along x, and of these the ones whose distance
    from (−½, −½, +½) is at most s + 1. It is off the origin by half a Fourier voxel; `sphere_band` is not.
    Measured by dividing the transforms of its output and of white noise given to it.

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
    return Band(shape, (rows[0], rows[1]), columns, r2 <= 1 + 1e-9)


@cache
def _twiddle(n: int, columns: int) -> npt.NDArray[np.complex64]:
    """Return exp(−2πi k/n) for k = 0 … columns − 1."""
    return np.asarray(np.exp(-2j * np.pi * np.arange(columns) / n), dtype=np.complex64)


def rfft_kept(slab: npt.NDArray[np.float32], columns: int) -> npt.NDArray[np.complex64]:
    """Return the first ``columns`` coefficients of a real transform along the last axis.

    For an even length n this is a complex transform of length n/2: neighbouring values are taken as real
    and imaginary part (no copy), and the two interleaved transforms are taken apart for the coefficients
    kept only. NumPy's own real transform of float32 is several times slower.
    """
    n = slab.shape[2]
    half = n // 2
    if n % 2 or columns > half:
        return np.asarray(np.fft.rfft(slab, axis=2)[..., :columns], dtype=np.complex64)
    z = np.fft.fft(slab.view(np.complex64), axis=2)
    front, back = z[..., :columns], np.empty((*z.shape[:2], columns), dtype=np.complex64)
    np.conj(z[..., :1], out=back[..., :1])
    np.conj(z[..., : half - columns : -1], out=back[..., 1:])
    odd = front - back
    odd *= np.complex64(-0.5j) * _twiddle(n, columns)
    back += front
    back *= np.float32(0.5)
    back += odd
    return back


def irfft_from(part: npt.NDArray[np.complex64], n: int) -> npt.NDArray[np.float32]:
    """Return the real array of length ``n`` along the last axis whose first coefficients are ``part``.

    The counterpart of `rfft_kept`; the coefficients not given are zero.
    """
    columns, half = part.shape[2], n // 2
    if n % 2 or columns > half:
        return np.asarray(np.fft.irfft(part, n=n, axis=2), dtype=np.float32)
    z = np.zeros((*part.shape[:2], half), dtype=np.complex64)
    odd = part * (1j * np.conj(_twiddle(n, columns))).astype(np.complex64)
    np.add(part, odd, out=z[..., :columns])
    np.subtract(part, odd, out=odd)
    z[..., : half - columns : -1] += np.conj(odd[..., 1:])
    # What irfft ignores: the imaginary part of the mean.
    z[..., 0] = part[..., 0].real * np.complex64(1 + 1j)
    out = np.fft.ifft(z, axis=2)
    out *= np.float32(0.5)
    return out.view(np.float32)


def spectrum_in_band(
    data: npt.NDArray[np.floating], band: Band, *, threads: int = 1
) -> npt.NDArray[np.complex64]:
    """Transform a map, computing only the coefficients within a band.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        The map; read slab by slab and converted to float32 on the way.
    band : Band
        What to keep.

    Returns
    -------
    ndarray of complex64, shape ``band.keep.shape``
        Unnormalised coefficients, zero where the band does not keep them.
    """
    nz = band.shape[0]
    part = np.empty((nz, len(band.rows[1]), band.columns), dtype=np.complex64)

    def in_plane(start: int, stop: int) -> None:
        slab = np.ascontiguousarray(data[start:stop], dtype=np.float32)
        along_x = rfft_kept(slab, band.columns)
        part[start:stop] = np.fft.fft(along_x, axis=1)[:, band.rows[1]]

    for_each_slab(in_plane, nz, planes_per_slab(band.shape, _SLAB), threads)
    out = np.empty(band.keep.shape, dtype=np.complex64)

    def along_z(start: int, stop: int) -> None:
        column = np.fft.fft(part[:, start:stop], axis=0)[band.rows[0]]
        out[:, start:stop] = column * band.keep[:, start:stop]

    for_each_slab(along_z, part.shape[1], max(1, _SLAB // max(1, nz * band.columns)), threads)
    return out


def map_from_band(
    spectrum: npt.NDArray[np.complex64], band: Band, *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Return the map (float32, shape ``band.shape``) whose coefficients in the band are ``spectrum``."""
    nz, ny, nx = band.shape
    part = np.empty((nz, len(band.rows[1]), band.columns), dtype=np.complex64)

    def along_z(start: int, stop: int) -> None:
        full = np.zeros((nz, stop - start, band.columns), dtype=np.complex64)
        full[band.rows[0]] = spectrum[:, start:stop]
        part[:, start:stop] = np.fft.ifft(full, axis=0)

    for_each_slab(along_z, part.shape[1], max(1, _SLAB // max(1, nz * band.columns)), threads)
    out = np.empty(band.shape, dtype=np.float32)

    def in_plane(start: int, stop: int) -> None:
        full = np.zeros((stop - start, ny, band.columns), dtype=np.complex64)
        full[:, band.rows[1]] = part[start:stop]
        out[start:stop] = irfft_from(np.asarray(np.fft.ifft(full, axis=1), dtype=np.complex64), nx)

    for_each_slab(in_plane, nz, planes_per_slab(band.shape, _SLAB), threads)
    return out


def lowpass(data: npt.NDArray[np.floating], band: Band, *, threads: int = 1) -> npt.NDArray[np.float32]:
    """Keep only the coefficients of ``data`` that lie in ``band``; float32, same shape."""
    return map_from_band(spectrum_in_band(data, band, threads=threads), band, threads=threads)


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

    def band(of: Shape) -> Band:
        rows = [(k % n).astype(np.intp) for k, n in zip(kept, of[:2], strict=True)]
        return Band(of, (rows[0], rows[1]), reach[2] + 1, keep)

    source, target = band(old), band(shape)
    spectrum = spectrum_in_band(data, source, threads=threads)
    spectrum *= np.float32(np.prod(shape) / np.prod(old))
    return map_from_band(spectrum, target, threads=threads)
