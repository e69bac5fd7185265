"""Surfaces as they go to a browser: the page of the viewer, a report, a notebook."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from occupy.numerics.mesh import Mesh, TooManyCellsError, climb, sample, surface
from occupy.numerics.resampling import block_means
from occupy.numerics.smoothing import quantile, smooth_volume
from occupy.volume import LazyMap, Volume, frame_of_box

if TYPE_CHECKING:
    from occupy.pipeline import Estimate

Array = npt.NDArray[np.float32]

# Longest side of the grid that a surface is made of (at rest, while a slider moves, in a report, one of many
# in a report, in a gallery), and how many cells it may pass through; above, a coarser grid is taken. A level
# within the noise passes through every cell of a box.
LIMITS = {
    "fine": (320, 400_000),
    "coarse": (128, 120_000),
    "report": (320, 70_000),
    "part": (320, 22_000),
    "thumb": (64, 30_000),
}

# A contour lies in the rim, where the scale rises from 0 to what the part reads; so colours are carried out
# of the matter beneath. Å: how far uphill in the map (averaged with a Gaussian) a path climbs, how far the
# ridges there reach as the highest, and the Gaussian over which they are averaged, like values with like:
# like is within 0.12 of what the nearest 1.75 Å average. Measured (benchmarks/surfaces.py): plain averages
# over 3 Å mix parts with their neighbours and leave more noise (a complete noisy channel 5 % below 0.9,
# instead of 1 %).
REACH, _SMOOTHING, _RIDGE, _AVERAGE, _NEAR, _LIKE = 8.0, 1.5, 3.0, 9.0, 1.75, 0.12
# Layers that are read on the surface itself: what they say of matter beneath is always the same.
ON_SURFACE = ("confidence",)
# Share of full scale at which maps are contoured. Lower shows weaker parts and more of the rim.
LEVEL = 0.4


def carried(data: Array, layers: Mapping[str, Array], spacing_zyx: Sequence[float]) -> dict[str, Array]:
    """Return what is painted on surfaces: what the matter of a map reads, carried out of it.

    A place has the average (Gaussian of 9 Å) of what is read on the ridges of the map around the place where
    a path ends that climbs the map from there, at most 8 Å; weak ridges count as much as strong ones, and
    what reads otherwise than the ridges next to that place, for little. So surfaces have the same colours at
    every level, parts keep theirs up to their borders, and noise is averaged. Where the occupancy follows
    from the scale, that of the carried scale is the better one: averages come before it is judged what is
    full.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        The map whose surface is painted.
    layers : mapping
        Name → array of the same shape.
    spacing_zyx : sequence of float
        Å per voxel.

    Returns
    -------
    dict
        Name → array on the grid of `blocks_of`, whose voxels are as large as the averages allow.
    """
    from occupy.numerics.morphology import ball_widths, box_of_ball, dilate

    blocks = blocks_of(data.shape, spacing_zyx)
    size = np.asarray(spacing_zyx) * blocks
    # What the average over blocks has smoothed already is not smoothed again.
    sigma = np.sqrt(np.maximum(_SMOOTHING**2 - size**2 / 12 * (np.array(blocks) > 1), 0)) / size
    smooth = smooth_volume(block_means(data, blocks), tuple(sigma.tolist()), 3.0)
    z, y, x = (max(_RIDGE / float(a), 1.5) for a in size)
    highest = dilate(smooth, ball_widths((z, y, x), (box_of_ball(z), box_of_ball(y), box_of_ball(x))))
    middle, spread, _ = spread_of(smooth)
    ridge = np.divide(smooth, highest, out=np.zeros_like(smooth), where=smooth > max(middle + 3 * spread, 0))
    # Far from all matter, what is read there.
    weight = ridge**4 + np.float32(1e-4)
    # Where surfaces may pass, and a voxel more for what is interpolated.
    passed = dilate((smooth > middle + 2 * spread).astype(np.float32), ball_widths((1, 1, 1), (3, 3, 3))) > 0
    ends = climb(smooth, np.argwhere(passed).astype(np.float32), size.tolist(), reach=REACH, step=REACH / 4)
    near, out = tuple((_NEAR / size).tolist()), {}
    total = smooth_volume(weight, near, 3.0)
    for name, layer in layers.items():
        mean = block_means(layer, blocks)
        out[name] = smooth_volume(weight * mean, near, 3.0) / total
        out[name][passed] = _averages_of_like(ends, sample([out[name]], ends)[0], weight, mean, size)
    return out


def _averages_of_like(
    ends: Array, guide: Array, weight: Array, layer: Array, size: npt.NDArray[np.float64]
) -> Array:
    """Return weighted averages of a layer around points, over what is like the guide's value at each.

    A bilateral filter (Tomasi and Manduchi 1998): averages over what is like one of a few values, with
    interpolation between these (Durand and Dorsey 2002).
    """
    if not len(ends):
        return guide
    # Only what the averages reach.
    reach = 3 * _AVERAGE / size
    first = np.maximum(ends.min(0) - reach, 0).astype(int)
    box = tuple(slice(a, b) for a, b in zip(first, (ends.max(0) + reach).astype(int) + 2, strict=True))
    weight, layer, ends = weight[box], layer[box], ends - first.astype(np.float32)
    blocks = _at_most(_AVERAGE / size, layer.shape)
    width = tuple((_AVERAGE / (size * blocks)).tolist())
    low, high = float(guide.min()), float(guide.max())
    # Layers of other units than shares of full are compared as shares of their highest value.
    like = np.float32(_LIKE * max(1.0, -low, high))
    step = np.float32(1.5) * like
    found = np.zeros_like(guide)
    for centre in low + step * np.arange(2 + int((high - low) / step), dtype=np.float32):
        share = 1 - np.abs(guide - centre) / step
        here = share > 0
        if not here.any():
            continue
        # What is like nothing near it keeps the plain average.
        counts = weight * (np.exp(-0.5 * ((layer - centre) / like) ** 2) + np.float32(1e-6))
        sums, of = (smooth_volume(block_means(a, blocks), width, 3.0) for a in (counts * layer, counts))
        found[here] += share[here] * paint(sums / of, ends[here], blocks)
    return found


def colouring(est: Estimate) -> Volume:
    """Return the occupancy (or scale) as `carried`, on a coarse grid, to colour surfaces at any level."""
    grid, size = est.coarse_maps["scale"], est.settings.voxel_size
    painted = carried(est.lowpassed, {"scale": grid.data}, size)["scale"]
    blocks = np.array(blocks_of(grid.shape, size))
    if est.calibration is not None:
        painted = est.calibration.occupancy_of(painted)
    z, y, x = (float(a) for a in blocks * size)
    first = grid.volume().position((blocks - 1) / 2)
    of = LazyMap(painted.shape, (z, y, x), grid.frame, grid.name)
    return Volume(painted, of.voxel_size, frame_of_box(of, tuple(first.tolist())), grid.name)


def blocks_of(shape: Sequence[int], spacing_zyx: Sequence[float]) -> tuple[int, int, int]:
    """Return how many voxels of a map along z, y, x one of `carried` stands for."""
    return _at_most(1.5 * _SMOOTHING / np.asarray(spacing_zyx), shape)


def _at_most(sides: npt.NDArray[np.float64], shape: Sequence[int]) -> tuple[int, int, int]:
    """Return whole sides of blocks, at least 1 and at most half the shape."""
    z, y, x = np.clip(sides.astype(int), 1, np.maximum(np.array(shape) // 2, 1)).tolist()
    return z, y, x


def surface_message(
    data: Array,
    level: float,
    layers: Mapping[str, tuple[Array, float, float]],
    *,
    spacing: Sequence[float],
    origin: Sequence[float],
    dust: float = 0.0,
    limits: tuple[int, int] = LIMITS["fine"],
    head: Mapping[str, Any] | None = None,
) -> bytes:
    """Return a surface with the values of layers at its vertices, packed for the browser.

    Parameters
    ----------
    data : ndarray, shape (nz, ny, nx)
        Map in (z, y, x) order.
    level : float
        Contour level.
    layers : mapping
        Name → array and the values that become 0 and 255. Arrays are as `carried`; of `ON_SURFACE` as they
        are, of the map's shape.
    spacing, origin : sequence of float
        Å per voxel and position of the first voxel, along x, y, z.
    dust : float
        Pieces of less than this volume (Å³) are left out.
    limits : tuple of int
        Longest side of the grid, and cells the surface may pass through; see `LIMITS`.
    head : mapping, optional
        Plain values to send along.
    """
    mesh, step = _fitting_mesh(data, level, limits, dust / float(np.prod(spacing)))
    points = mesh.vertices * np.float32(step)
    arrays: dict[str, npt.NDArray[Any]] = _packed_mesh(mesh, points, data.shape)
    blocks = blocks_of(data.shape, spacing[::-1])
    for name, (layer, low, high) in layers.items():
        found = sample([layer], points)[0] if name in ON_SURFACE else paint(layer, points, blocks)
        arrays[f"colour:{name}"] = to_bytes(found, low, high)
    about = {
        "vertices": len(points),
        "triangles": len(mesh.faces),
        "step": step,
        "level": level,
        "origin": list(origin),
        "extent": [(n - 1) * a for n, a in zip(reversed(data.shape), spacing, strict=True)],
        "ranges": {name: [low, high] for name, (_, low, high) in layers.items()},
    }
    return pack({**about, **(head or {})}, arrays)


def paint(values: Array, points: Array, blocks: tuple[int, int, int]) -> Array:
    """Return what a layer as `carried` has at points z, y, x of the map; ``blocks`` from `blocks_of`."""
    sides = np.array(blocks, dtype=np.float32)
    return sample([values], np.asarray((points - (sides - 1) / 2) / sides, dtype=np.float32))[0]


def _packed_mesh(mesh: Mesh, points: Array, shape: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
    """Return positions x, y, z over the box as 16 bits, normals as 8 and indices as 32."""
    extent = np.maximum(np.array(shape, dtype=np.float32) - 1, 1)
    scaled = np.rint(points / extent * np.float32(65535))
    normals = np.zeros((len(points), 4), dtype=np.int8)
    normals[:, :3] = np.rint(mesh.normals[:, ::-1] * 127)
    return {
        "positions": np.clip(scaled, 0, 65535).astype(np.uint16)[:, ::-1].copy(),
        "normals": normals,
        "indices": mesh.faces.astype(np.uint32),
    }


def _fitting_mesh(data: Array, level: float, limits: tuple[int, int], dust: float) -> tuple[Mesh, int]:
    """Return the surface on the finest grid on which it is not too large, and that grid's step.

    ``dust`` is in voxels of the whole grid.
    """
    side, cells = limits
    step = max(1, -(-max(data.shape) // side))
    while True:
        coarser = data[::step, ::step, ::step]
        try:
            mesh = surface(np.ascontiguousarray(coarser), level, most=cells)
        except TooManyCellsError:
            step += 1
            continue
        return mesh.without_dust(dust / step**3), step


def spread_of(data: Array) -> tuple[float, float, float]:
    """Return median, robust standard deviation and a high value (99.95 %) of a map, from a part of it."""
    step = max(1, round((data.size / 3e5) ** (1 / 3)))
    values = data[::step, ::step, ::step]
    middle, high = quantile(values, 0.5), quantile(values, 0.9995)
    return middle, 1.4826 * quantile(np.abs(values - np.float32(middle)), 0.5), high


def clear_level(middle: float, spread: float, high: float) -> float:
    """Return a contour level above a map's noise, and well above zero where it has none.

    The arguments are those of `spread_of`.
    """
    return max(middle + 4 * spread, middle + 0.25 * (high - middle))


def content_level(data: Array, full: float, lowest: float, highest: float) -> float:
    """Return a contour level at which a person sees the particle, without its rim and with little noise.

    The highest of three values: 0.4 of full scale; the lowest confident value; three robust standard
    deviations above the median of the box. It stays below the map's highest value.

    Parameters
    ----------
    data : ndarray
        The map.
    full : float
        Map value of full scale.
    lowest : float
        Map value where confidence crosses one half; 0 where the solvent fit is bad and it says nothing.
    highest : float
        Highest value of the map.
    """
    middle, spread, _ = spread_of(data)
    return min(max(LEVEL * full, lowest, middle + 3 * spread), 0.9 * highest)


def level_of_record(record: Mapping[str, Any], data: Array) -> float:
    """Return the contour level of a map by its estimate's record: as asked for, or `content_level`."""
    asked = record["options"].get("level")
    if isinstance(asked, (int, float)):
        return float(asked)
    return level_in(data, record["numbers"])


def level_in(data: Array, numbers: Mapping[str, Any]) -> float:
    """Return the contour level of a map, from the record of its estimate; see `content_level`."""
    lowest = float(numbers["lowest_confident_value"]) if numbers["solvent"]["good_fit"] else 0.0
    return content_level(data, float(numbers["full_scale_value"]), lowest, float(numbers["map_range"][1]))


def pack(head: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return one message: length of the head, the head, and the arrays, each at a multiple of four bytes.

    Parameters
    ----------
    head : mapping
        Plain values; ``arrays`` is added: name → type, offset after the head, number of elements.
    arrays : mapping
        Name → array; sent little-endian.
    """
    index, parts, offset = {}, [], 0
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array)
        raw = plain.astype(plain.dtype.newbyteorder("<"), copy=False).tobytes()
        index[name] = {"type": plain.dtype.name, "offset": offset, "length": plain.size}
        parts.append(raw + bytes(-len(raw) % 4))
        offset += len(parts[-1])
    text = json.dumps({**head, "arrays": index}, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<I", len(text)) + text + b"".join(parts)


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read what `pack` made: the head and the arrays."""
    (length,) = struct.unpack_from("<I", message)
    head = json.loads(message[4 : 4 + length])
    arrays = {
        name: np.frombuffer(
            message, np.dtype(a["type"]).newbyteorder("<"), a["length"], 4 + length + a["offset"]
        )
        for name, a in head.pop("arrays").items()
    }
    return head, arrays


def to_bytes(values: npt.NDArray[np.floating], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return values as 0 to 255 between ``low`` and ``high``; those beyond are cut off."""
    span = (high - low) or 1.0
    scaled = (values - np.float32(low)) * np.float32(255 / span)
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)
