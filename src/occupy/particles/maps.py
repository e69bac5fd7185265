"""Maps from single images: of each state, and of what no part accounts for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from occupy.errors import Notice
from occupy.particles.columns import Block, blocks, in_order, read_block
from occupy.particles.evidence import Fitted, whitened
from occupy.particles.images import ParticleImages
from occupy.particles.scaling import Scaling, turned
from occupy.particles.slices import (
    Band,
    FourierVolumes,
    Pairs,
    Plane,
    back_transformed,
    band_between,
    cropped,
    displaced,
    empty_volumes,
    fourier_volumes,
    plane_of,
)
from occupy.particles.symmetry import SOLID, likeness

Array = npt.NDArray[np.float64]
Real = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sums:
    """Back-projections on the grid of padded transforms.

    Attributes
    ----------
    values : ndarray of float64, shape (grid points, 2)
        Of weighted images: real and imaginary parts.
    weights : ndarray of float64, shape (grid points,)
        Of squared transfer functions.
    """

    values: Array
    weights: Array


def reconstruct(
    images: ParticleImages,
    offsets: Real,
    scaling: Scaling,
    band: Band,
    rows: npt.NDArray[np.int64],
    threads: int,
) -> Real:
    """Reconstruct the map of some images.

    Parameters
    ----------
    images : ParticleImages
        All of them.
    offsets : ndarray of float32, shape (N, 7)
        What was found to be off in each (`occupy.particles.columns.NUISANCES`).
    scaling : Scaling
        Scale and noise of each shell of the band.
    band : Band
        Up to its finest shell the map is made.
    rows : ndarray of int64
        Which images.
    threads : int
        How many.

    Returns
    -------
    ndarray of float32, shape (m, m, m)
        With m voxels along the side of the images; the particle's density is positive.
    """
    # A check by eye needs no more than 4000 images.
    rows = rows[:: -(-len(rows) // 4_000)]
    whole = band_between(images.side, images.side, images.side / (band.last + 0.5))
    grid = empty_volumes(whole.last)
    shell = np.clip(whole.shell + whole.first - band.first, 0, band.shells - 1)

    def work(rows: npt.NDArray[np.int64]) -> Sums:
        return _projected_back(images, offsets, scaling, whole, shell, grid, rows)

    total: Sums | None = None
    for each in in_order(work, blocks(images.group, rows), threads):
        total = each if total is None else Sums(total.values + each.values, total.weights + each.weights)
    assert total is not None
    # A tenth of a shell's mean weight is added to all its weights, so that what nobody sees stays 0.
    return back_transformed(total.values, total.weights, grid, 0.1)


def _projected_back(
    images: ParticleImages, offsets: Real, scaling: Scaling, band: Band, shell: npt.NDArray[np.int64],
    grid: FourierVolumes, rows: npt.NDArray[np.int64],
) -> Sums:  # fmt: skip
    """Back-projections of a block of images, and of their weights."""
    block, values = read_block(images, band, rows), offsets[rows].astype(np.float64)
    column, image = scaling.weights(block.group, shell)
    plane = plane_of(band.k_xy, turned(images.matrices[rows], values), grid)
    filtered = displaced(block.coefficients, band, values[:, 1:3]) * (block.ctf * column * image)[:, :, None]
    return Sums(plane.back(filtered), plane.back((block.ctf * column) ** 2))


_IMAGES, _ROUNDS = 2_000, 12
_REGULAR = 0.3
_AGREE, _BESIDE, _WITHIN = 0.1, 0.02, 0.1
"""Correlation of the directions found in two halves of the images (by chance up to some 0.02), and share of
the parts' power, from which on it is said that something is not accounted for: where most of it is beside the
parts, and where it is at them. There, B-factors and ice unlike the model leave some (relion_mini:
7 %)."""


@dataclass(frozen=True, eq=False)
class Residual:
    """What no part accounts for.

    Attributes
    ----------
    volume : ndarray of float32, shape (m, m, m)
        The direction, in units of the parts' density times its root mean square amplitude.
    agreement : float
        Correlation of what two halves of the images show, each by itself.
    power : float
        Its share of the power of all parts together, in the band that is looked at; noise is taken off.
    mean : float
        Mean amplitude over its root mean square: near ±1 where it is there in all particles, near 0 where it
        comes and goes, or moves, about what the parts say.
    where : tuple of float
        Share of its power at each part.
    """

    volume: Real
    agreement: float
    power: float
    mean: float
    where: tuple[float, ...]

    @property
    def sure(self) -> bool:
        """Whether it is more than chance, and more than a trifle."""
        least = _WITHIN if sum(self.where) > 0.5 else _BESIDE
        return self.agreement > _AGREE and self.power > least


@dataclass(frozen=True, eq=False)
class _Piece:
    """Residuals of a block's images, noise 1; their slices and factors of these; power of the parts."""

    rest: Pairs
    plane: Plane
    factor: Real
    signal: float


def find_residual(
    images: ParticleImages, offsets: Real, fitted: Fitted, variance: Array, volumes_zyx: Real, rows: Integers,
    threads: int,
) -> Residual:  # fmt: skip
    """Find what images show that no part accounts for.

    Parameters
    ----------
    images : ParticleImages
        All of them.
    offsets : ndarray of float32, shape (N, 7)
        What was found to be off in each.
    fitted : Fitted
        What was learnt.
    variance : ndarray of float64, shape (C,)
        Of the parts' amplitudes over the particles.
    volumes_zyx : ndarray of float32, shape (C, m, m, m)
        The parts.
    rows : ndarray of int64
        Images that hold a particle; some of them are looked at.
    threads : int
        How many.
    """
    # Shells of single images finer than 20 Å hold mostly noise.
    coarse = replace(fitted, whole=replace(fitted.whole, band=fitted.whole.band.down_to(20.0)))
    band, rows = coarse.whole.band, rows[:: -(-len(rows) // _IMAGES)]
    grid = empty_volumes(band.last)

    def work(some: Integers) -> _Piece:
        return _rest(
            read_block(images, band, some), images.matrices[some], offsets[some], coarse, variance, grid
        )

    pieces = list(in_order(work, blocks(images.group, rows), threads))
    parts = np.stack([cropped(each, 2 * band.last + 2) for each in volumes_zyx])
    mask = _surroundings(parts.sum(axis=0))
    (one, first, own), (other, second, its) = (_direction(pieces[half::2], grid, mask) for half in (0, 1))
    agreement = likeness(one, other)
    sign = -1.0 if agreement < 0 else 1.0
    amplitudes = np.concatenate([first, sign * second])
    root = float(np.sqrt((amplitudes**2).mean()))
    # Transforms are sums over voxels, of which there are fewer here than in the parts.
    volume = (one + sign * other) / 2 * root * (len(mask) / len(volumes_zyx[0])) ** 3
    # Noise is in the power of each half, but not in what they have in common.
    power = abs(agreement) * (own + its) / sum(piece.signal for piece in pieces)
    return Residual(
        volume.astype(np.float32), abs(agreement), power,
        float(amplitudes.mean()) / max(root, 1e-30), _where(volume.astype(np.float32), parts),
    )  # fmt: skip


def _rest(
    block: Block, matrices: Array, offsets: Real, fitted: Fitted, variance: Array, grid: FourierVolumes
) -> _Piece:
    """Return residuals of a block's images after parts and errors of poses, as far as priors let them."""
    values = offsets.astype(np.float64)
    here = turned(matrices, values)
    columns, nuisance, seen = whitened(block, here, values, fitted)
    flat = columns.reshape(len(columns), -1, columns.shape[3])
    both = np.concatenate([flat, nuisance], axis=2).astype(np.float64)
    signal = flat @ fitted.whole.scaling.amplitudes
    rest = seen[:, :, 0] - signal
    prior = np.concatenate([variance, fitted.spread[1:] ** 2])
    precision = np.diag(1 / np.maximum(prior, 1e-9))
    right = both.transpose(0, 2, 1) @ rest[:, :, None]
    found = np.linalg.solve(both.transpose(0, 2, 1) @ both + precision, right)
    rest = (rest - (both @ found)[:, :, 0]).reshape(len(rest), -1, 2).astype(np.float32)
    column, _ = fitted.whole.scaling.weights(block.group, fitted.whole.band.shell)
    factor = np.asarray(np.multiply(block.ctf, column), dtype=np.float32)
    plane = plane_of(fitted.whole.band.k_xy, here, grid)
    return _Piece(
        np.asarray(rest, dtype=np.float32), plane, factor, float((signal.astype(np.float64) ** 2).sum())
    )


def _direction(pieces: Sequence[_Piece], grid: FourierVolumes, mask: Real) -> tuple[Real, Array, float]:
    """Direction of unit root mean square amplitude, each image's amplitude along it, and its power in all.

    Probabilistic principal components by expectation-maximisation (Tipping & Bishop, J. R. Stat. Soc. B 61,
    611, 1999), with the moments about zero: what is missing in all images counts too. It starts from the mean
    residual.
    """
    weights = [piece.plane.back(piece.factor**2) for piece in pieces]
    onto = [piece.plane.back(piece.rest * piece.factor[:, :, None]) for piece in pieces]
    volume = mask * back_transformed(np.sum(onto, axis=0), np.sum(weights, axis=0), grid, _REGULAR)
    amplitudes, power = np.zeros(0), 0.0
    for _ in range(_ROUNDS):
        transform = fourier_volumes([volume], (grid.reach - 1) // 2)
        values, weight, found, power = 0 * onto[0], 0 * weights[0], [], 0.0
        for piece in pieces:
            column = piece.plane.of(transform, piece.factor)[..., 0]
            own = (column**2).sum(axis=(1, 2), dtype=np.float64)
            mean = (column * piece.rest).sum(axis=(1, 2), dtype=np.float64) / (1 + own)
            square = mean**2 + 1 / (1 + own)
            along = (mean[:, None] * piece.factor).astype(np.float32)
            values = values + piece.plane.back(piece.rest * along[:, :, None])
            weight = weight + piece.plane.back((square[:, None] * piece.factor**2).astype(np.float32))
            found.append(mean)
            power += float((square * own).sum())
        amplitudes = np.concatenate(found)
        volume = mask * back_transformed(values, weight, grid, _REGULAR)
    return volume, amplitudes, power


def _surroundings(whole_zyx: Real) -> Real:
    """1 where the parts are and up to a few waves around them, 0 elsewhere."""
    from scipy.ndimage import binary_dilation

    solid = whole_zyx > SOLID * whole_zyx.max()
    return np.asarray(binary_dilation(solid, iterations=4), dtype=np.float32)


def _where(volume: Real, parts_zyx: Real) -> tuple[float, ...]:
    """Share of a volume's power at each part."""
    power = volume.astype(np.float64) ** 2
    return tuple(float(power[part > SOLID * part.max()].sum() / power.sum()) for part in parts_zyx)


def residual_notices(found: Residual, names: tuple[str, ...]) -> tuple[Notice, ...]:
    """Say what is not accounted for, and where it is."""
    if not found.sure:
        return ()
    nearest = int(np.argmax(found.where))
    place = f"mostly at {names[nearest]}" if found.where[nearest] > 0.5 else "mostly beside the parts"
    if sum(found.where) > 0.5 and found.where[nearest] <= 0.5:
        place = f"at several parts, {names[nearest]} first"
    kind = "in nearly all images" if abs(found.mean) > 0.8 else "in some images more than in others"
    text = (
        f"parts do not account for all that images show ({100 * found.power:.0f} % of their power at 20 Å, "
        f"{kind}, {place}): without a name, moving, or unlike the model? See residual.mrc"
    )
    return (Notice("residual", text),)
