"""The scattering density of a model's parts, as Fourier coefficients on the lattice of a cropped map.

A part is the electron scattering of its atoms minus that of the ice they displace. How much ice that is
depends on cavities, on hydrogens that models leave out and on the water around; so it comes in three shapes
(sum of the atoms' volumes, what a water molecule cannot enter, and the layer around that), mixed by the
fit. All parts get one B-factor: it only has to be large enough for the grid they are sampled on, since the
fit finds the scale between model and map shell by shell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import pi

import gemmi
import numpy as np
import numpy.typing as npt
from scipy.fft import irfftn, rfftn
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter

Triple = tuple[float, float, float]
Numbers = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

ATOM_VOLUME = 17.2
"""Å³ that a heavy atom displaces in protein: 134 Å³ per mean residue of 7.8 heavy atoms."""
ATOM_VOLUME_B = 4 * pi * ATOM_VOLUME ** (2 / 3)
"""Å²: the first shape of the ice is a Gaussian of each atom's volume (Fraser, MacRae & Suzuki, J. Appl.
Cryst. 11, 693, 1978)."""
SWOLLEN, PROBE = 3.2, 1.3
"""Å: the second shape is what lies within 3.2 Å of an atom, less the outer 1.3 Å: a van der Waals radius of
1.9 Å with the gaps closed that no water enters. Each place belongs to its nearest atom's part."""
EDGE_B = 8 * pi**2
"""Å²: the surface of that shape is blurred by 1 Å."""
SHAPES = 4
"""Rows of coefficients per part: atoms, and the three shapes of ice."""
_BEYOND_ATOMS, _FAR_FROM_ATOMS, _SEEN_OVER, _SPREADS = 3.0, 10.0, 3.0, 3.0
"""Å: density without a model lies at least this far from any atom; what is farther than the second tells the
noise. Averaged over 3 Å, it is 3 standard deviations of that. Farther out (4 Å) belts around membrane parts
are missed, and 2 or 2.5 Å, or standard deviations, do alike but for water around other models."""
STEPS_PER_RESOLUTION = 3
"""Grid points per finest resolution; with `SAMPLING_B` what aliases into the band is below 2 %."""
SAMPLING_B = 6.0
"""B-factor of all atoms, in squares of the finest resolution."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """The Fourier coefficients of a box that lie within a sphere, sorted by shell.

    Attributes
    ----------
    start : tuple of int
        First voxel (z, y, x) of the box in the map.
    shape : tuple of int
        Voxels of the box.
    voxel_size : tuple of float
        Å along z, y, x.
    resolution : float
        Å; finest.
    index : ndarray of int, shape (3, n)
        Signed frequency index along z, y, x of each coefficient; x is never negative.
    starts : ndarray of int, shape (shells + 1,)
        Where each shell begins.
    frequency : ndarray of float64, shape (shells,)
        Mean 1/Å of each shell.
    """

    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    voxel_size: Triple
    resolution: float
    index: Indices
    starts: Indices
    frequency: Numbers

    @property
    def lengths(self) -> Triple:
        """Side of the box along z, y, x in Å."""
        a, b, c = (n * v for n, v in zip(self.shape, self.voxel_size, strict=True))
        return a, b, c

    @cached_property
    def reach(self) -> tuple[int, int, int]:
        """Largest index along z, y, x."""
        z, y, x = (int(np.abs(axis).max(initial=0)) for axis in self.index)
        return z, y, x

    @cached_property
    def columns(self) -> Indices:
        """Which pairs of indices along y and x, in an array of all of them, any coefficient has."""
        _, y, x = self.index
        return np.unique((y + self.reach[1]) * (self.reach[2] + 1) + x)

    @cached_property
    def places(self) -> Indices:
        """Where each coefficient lies in an array of all indices along z and of `columns`: (n,)."""
        z, y, x = self.index
        column = np.searchsorted(self.columns, (y + self.reach[1]) * (self.reach[2] + 1) + x)
        return np.asarray((z + self.reach[0]) * len(self.columns) + column)

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """Root of how many coefficients each stands for: conjugates are not stored."""
        return np.where(self.index[2] > 0, np.sqrt(2), 1.0).astype(np.float32)

    @property
    def count(self) -> Numbers:
        """Real numbers per shell: degrees of freedom."""
        per = np.add.reduceat(np.where(self.index[2] > 0, 2.0, 1.0), self.starts[:-1])
        return np.asarray(per, dtype=np.float64)

    def spread(self, of_shells: Numbers) -> npt.NDArray[np.float32]:
        """Return every coefficient's value of its shell: (n,)."""
        return np.repeat(of_shells, np.diff(self.starts)).astype(np.float32)

    @classmethod
    def of(
        cls, start: tuple[int, int, int], shape: tuple[int, int, int], voxel_size: Triple, resolution: float
    ) -> Lattice:
        """Return the coefficients of a box up to a resolution, without the mean."""
        lengths = [n * a for n, a in zip(shape, voxel_size, strict=True)]
        reach = [
            min(int(length / resolution), (n - 1) // 2) for length, n in zip(lengths, shape, strict=True)
        ]
        along = [np.arange(-r, r + 1) for r in reach[:2]] + [np.arange(reach[2] + 1)]
        grid = np.stack(np.meshgrid(*along, indexing="ij")).reshape(3, -1)
        squared = sum((grid[i] / lengths[i]) ** 2 for i in range(3))
        step = 1 / max(lengths)
        frequency = np.sqrt(squared)
        shell = np.rint(frequency / step).astype(np.intp)
        inside = (shell > 0) & (frequency <= 1 / resolution)
        order = np.flatnonzero(inside)[np.argsort(shell[inside], kind="stable")]
        counts = np.bincount(shell[order])[1:]
        counts = counts[counts > 0]
        starts = np.concatenate([[0], np.cumsum(counts)])
        mean = np.add.reduceat(frequency[order], starts[:-1]) / counts
        return cls(start, shape, voxel_size, resolution, grid[:, order], starts, mean)

    def thinned(self, every: int) -> tuple[Lattice, Indices]:
        """Return a lattice of every so many coefficients, one of each shell at least, and which these are."""
        lengths = np.diff(self.starts)
        within = np.arange(self.starts[-1]) - np.repeat(self.starts[:-1], lengths)
        kept = np.flatnonzero(within % every == 0)
        starts = np.concatenate([[0], np.cumsum((lengths + every - 1) // every)])
        return replace(self, index=self.index[:, kept], starts=starts), kept


def map_coefficients(data: npt.NDArray[np.floating], lattice: Lattice) -> npt.NDArray[np.complex64]:
    """Return the map's coefficients on the lattice: (n,), in units of map value times Å³."""
    box = data[tuple(slice(s, s + n) for s, n in zip(lattice.start, lattice.shape, strict=True))]
    fourier = rfftn(np.asarray(box, dtype=np.float32))
    z, y, x = lattice.index
    found = fourier[z % lattice.shape[0], y % lattice.shape[1], x]
    return np.asarray(found * np.float32(np.prod(lattice.voxel_size)), dtype=np.complex64)


def weighted_sum(
    rows: npt.NDArray[np.complex64], weight: Numbers, lattice: Lattice
) -> npt.NDArray[np.complex64]:
    """Return the sum of rows of coefficients (parts, n), weighted by shell (shells, parts): (n,)."""
    out = np.empty(rows.shape[1], dtype=np.complex64)
    of_shells = weight.astype(np.complex64)
    for shell, (low, high) in enumerate(zip(lattice.starts[:-1], lattice.starts[1:], strict=True)):
        out[low:high] = of_shells[shell] @ rows[:, low:high]
    return out


def on_grid(coefficients: npt.NDArray[np.complex64], lattice: Lattice) -> npt.NDArray[np.float32]:
    """Return the map of a lattice's box that has these coefficients: the inverse of `map_coefficients`."""
    nz, ny, nx = lattice.shape
    fourier = np.zeros((nz, ny, nx // 2 + 1), dtype=np.complex64)
    z, y, x = lattice.index
    fourier[z % nz, y % ny, x] = coefficients / np.float32(np.prod(lattice.voxel_size))
    return np.asarray(irfftn(fourier, s=lattice.shape), dtype=np.float32)


def correlations_when_moved(
    fixed: npt.NDArray[np.complex64], moved: npt.NDArray[np.complex64], lattice: Lattice
) -> npt.NDArray[np.float32]:
    """Return the correlation of two maps for every shift of the second, by whole voxels of the lattice's box.

    Parameters
    ----------
    fixed, moved : (n,) array of complex64
        Coefficients of the maps on the lattice.
    lattice : Lattice
        Of both.

    Returns
    -------
    (nz, ny, nx) array of float32
        Without a shift at [0, 0, 0].
    """
    power = np.prod([(np.abs(each) ** 2 * lattice.weights**2).sum() for each in (fixed, moved)])
    count = float(np.prod(lattice.voxel_size)) * float(np.prod(lattice.shape))
    return on_grid(fixed * np.conj(moved), lattice) * np.float32(count / max(float(np.sqrt(power)), 1e-30))


def unmodelled(
    residual: npt.NDArray[np.complex64], points: Numbers, lattice: Lattice
) -> npt.NDArray[np.complex64]:
    """Return the coefficients of density where there are no atoms: micelles, missing chains, other molecules.

    Parameters
    ----------
    residual : (n,) array of complex64
        What the fitted model leaves over of a map.
    points : (atoms, 3) array
        x, y, z of the model's atoms in Å from the map's first voxel.
    lattice : Lattice
        Of the residual.

    Returns
    -------
    (n,) array of complex64
        Of what is left over, more than noise, at some distance from all atoms.
    """
    grid = sampled(lattice)
    left = on_grid(residual, grid)
    origin = np.multiply(lattice.start, lattice.voxel_size)
    at = np.rint((points[:, ::-1] - origin) / grid.voxel_size).astype(np.intp)
    free = np.ones(grid.shape, dtype=bool)
    free[tuple(at[((at >= 0) & (at < grid.shape)).all(axis=1)].T)] = False
    distance = distance_transform_edt(free, sampling=grid.voxel_size)
    smooth = gaussian_filter(left, np.divide(_SEEN_OVER, grid.voxel_size))
    far = smooth[distance > _FAR_FROM_ATOMS]
    spread = 1.4826 * float(np.median(np.abs(far - np.median(far)))) if far.size else 0.0
    there = ((distance > _BEYOND_ATOMS) & (smooth > _SPREADS * spread)).astype(np.float32)
    # A soft edge half as wide, so that the cut itself adds no detail.
    left *= gaussian_filter(there, np.divide(_SEEN_OVER / 2, grid.voxel_size))
    return map_coefficients(left, grid)


def sampled(lattice: Lattice) -> Lattice:
    """Return a lattice of the same coefficients whose box has no more voxels than these need."""
    most = lattice.resolution / STEPS_PER_RESOLUTION
    nz, ny, nx = (
        min(n, int(np.ceil(length / most))) for n, length in zip(lattice.shape, lattice.lengths, strict=True)
    )
    z, y, x = lattice.lengths
    return replace(lattice, start=(0, 0, 0), shape=(nz, ny, nx), voxel_size=(z / nz, y / ny, x / nx))


@dataclass(frozen=True, eq=False)
class Atoms:
    """What scatters.

    Attributes
    ----------
    points : ndarray of float64, shape (atoms, 3)
        x, y, z in Å from the map's first voxel.
    elements : ndarray of uint8, shape (atoms,)
        Atomic numbers.
    weights : ndarray of float64, shape (atoms,)
        How many atoms each stands for.
    """

    points: Numbers
    elements: npt.NDArray[np.uint8]
    weights: Numbers

    def of(self, chosen: Indices) -> Atoms:
        """Return some of the atoms."""
        return Atoms(self.points[chosen], self.elements[chosen], self.weights[chosen])


@dataclass(frozen=True, eq=False)
class _LocalGrid:
    """A density on a grid of its own.

    Attributes
    ----------
    density : ndarray of float32, shape (nz, ny, nx)
        Values.
    origin : ndarray of float64, shape (3,)
        z, y, x of the first point in Å from the map's first voxel.
    step : float
        Å between points.
    """

    density: npt.NDArray[np.float32]
    origin: Numbers
    step: float


def _transform(
    local: _LocalGrid,
    lattice: Lattice,
    b_factor: float,
    room: npt.NDArray[np.complex64],
    out: npt.NDArray[np.complex64],
) -> None:
    """Write the coefficients of a density on a local grid to ``out`` (n,), blurred by a B-factor.

    The transform is separable, and its phases know where the grid lies: no grid has to fit another. Columns
    along z that are not within the lattice are left out before the last, largest, of its three steps, which
    goes to ``room`` (z, columns): a new array for every density would cost as much time as the step.
    """
    first = [0 if axis == 2 else -lattice.reach[axis] for axis in range(3)]
    phases = []
    for axis in range(3):
        frequency = np.arange(first[axis], lattice.reach[axis] + 1) / lattice.lengths[axis]
        origin = local.origin[axis] - lattice.start[axis] * lattice.voxel_size[axis]
        at = origin + local.step * np.arange(local.density.shape[axis])
        weight = local.step * np.exp(-b_factor / 4 * frequency**2)
        phases.append((weight * np.exp(-2j * pi * np.outer(at, frequency))).astype(np.complex64))
    along_x = local.density @ phases[2].view(np.float32)  # z y kx, real and imaginary parts side by side
    along_y = phases[1].T @ np.ascontiguousarray(along_x).view(np.complex64)  # z ky kx
    columns = along_y.reshape(len(along_y), -1).take(lattice.columns, axis=1)  # z ky·kx
    np.matmul(phases[0].T, columns, out=room)
    room.reshape(-1).take(lattice.places, out=out, mode="clip")


def _calculator(size: Indices, step: float) -> gemmi.DensityCalculatorE:
    calculator = gemmi.DensityCalculatorE()
    a, b, c = (size * step).tolist()
    calculator.grid.unit_cell = gemmi.UnitCell(a, b, c, 90, 90, 90)
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(*size.tolist())
    return calculator


def _atoms_and_volumes(atoms: Atoms, resolution: float) -> tuple[_LocalGrid, _LocalGrid]:
    """Return the scattering of atoms, and the sum of their volumes, both at the sampling B-factor."""
    step = resolution / STEPS_PER_RESOLUTION
    # Four widths of the blurred atoms around a part.
    halo = 1.6 * resolution
    low = np.floor((atoms.points.min(axis=0) - halo) / step).astype(np.intp)
    size = np.ceil((atoms.points.max(axis=0) + halo) / step).astype(np.intp) - low + 1
    scattering, volume = _calculator(size, step), _calculator(size, step)
    b_factor = SAMPLING_B * resolution**2
    elements = {int(number): gemmi.Element(int(number)) for number in np.unique(atoms.elements)}
    atom = gemmi.Atom()
    rows = zip(
        (atoms.points - low * step).tolist(), atoms.elements.tolist(), atoms.weights.tolist(), strict=True
    )
    for point, number, weight in rows:
        atom.pos = gemmi.Position(*point)
        atom.element = elements[number]
        atom.occ = weight
        atom.b_iso = b_factor
        scattering.add_atom_density_to_grid(atom)
        atom.b_iso = b_factor + ATOM_VOLUME_B
        volume.add_c_contribution_to_grid(atom, ATOM_VOLUME)
    found = [c.grid.array.transpose(2, 1, 0).astype(np.float32) for c in (scattering, volume)]
    origin = (low * step)[::-1].astype(np.float64)
    return _LocalGrid(found[0], origin, step), _LocalGrid(found[1], origin, step)


def _envelopes(
    atoms: Atoms, parts: Sequence[Indices], step: float
) -> list[tuple[_LocalGrid, _LocalGrid] | None]:
    """Return each part's share of the space that water cannot enter, and of the layer around it, 0 to 1."""
    points = atoms.points[:, ::-1]
    low = np.floor((points.min(axis=0) - 2 * SWOLLEN) / step).astype(int)
    size = np.ceil((points.max(axis=0) + 2 * SWOLLEN) / step).astype(int) - low + 1
    label = np.zeros(size, dtype=np.int32)
    part_of = np.zeros(len(points), dtype=np.int32)
    for number, part in enumerate(parts, start=1):
        part_of[part] = number
    at = np.rint(points / step).astype(int)
    # Where atoms share a voxel it belongs to the one nearest to its middle, whatever the order of parts.
    inwards = np.argsort(-((points / step - at) ** 2).sum(axis=1), kind="stable")
    inwards = inwards[part_of[inwards] > 0]
    label[tuple((at[inwards] - low).T)] = part_of[inwards]
    far, nearest = distance_transform_edt(label == 0, return_indices=True)
    far *= step
    swollen = np.clip((SWOLLEN - far) / step + 0.5, 0, 1).astype(np.float32)
    # Depth below the swollen surface, which lies half a step before the first point outside.
    depth = distance_transform_edt(swollen > 0.5) * step - step / 2
    inside = np.clip((depth - PROBE) / step + 0.5, 0, 1).astype(np.float32)
    layer = np.maximum(swollen - inside, 0)
    owner = np.where(swollen > 0, label[tuple(nearest)], 0)
    found: list[tuple[_LocalGrid, _LocalGrid] | None] = []
    for number, where in enumerate(find_objects(owner, max_label=len(parts)), start=1):
        if where is None:
            found.append(None)
            continue
        origin = (low + [side.start for side in where]) * step
        mine = owner[where] == number
        found.append(
            (
                _LocalGrid(inside[where] * mine, origin.astype(np.float64), step),
                _LocalGrid(layer[where] * mine, origin.astype(np.float64), step),
            )
        )
    return found


def shape_coefficients(atoms: Atoms, parts: Sequence[Indices], lattice: Lattice) -> npt.NDArray[np.complex64]:
    """Return the coefficients of every part's shapes: (`SHAPES`, parts, n).

    Parameters
    ----------
    atoms : Atoms
        All that scatter.
    parts : sequence of ndarray of int
        Atoms of each part.
    lattice : Lattice
        Where.

    Returns
    -------
    ndarray of complex64
        Scattering of the atoms; their volumes; the space that water cannot enter; the layer around it.
    """
    out = np.zeros((SHAPES, len(parts), lattice.index.shape[1]), dtype=np.complex64)
    room = np.empty((2 * lattice.reach[0] + 1, len(lattice.columns)), dtype=np.complex64)
    blur = SAMPLING_B * lattice.resolution**2 + EDGE_B
    spaces = _envelopes(atoms, parts, lattice.resolution / STEPS_PER_RESOLUTION)
    for row, (part, space) in enumerate(zip(parts, spaces, strict=True)):
        for shape, grid in enumerate(_atoms_and_volumes(atoms.of(part), lattice.resolution)):
            _transform(grid, lattice, 0.0, room, out[shape, row])
        for shape, grid in enumerate(space or (), start=2):
            _transform(grid, lattice, blur, room, out[shape, row])
    return out
