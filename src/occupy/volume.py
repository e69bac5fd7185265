"""A map and where it lies in space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import Notice

Triple = tuple[float, float, float]
IntTriple = tuple[int, int, int]


def _read_only(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class Frame:
    """Where a map lies in space and how its file describes it; carried from input to output untouched.

    Attributes
    ----------
    axes : tuple of int
        Which of x, y, z (1, 2, 3) runs along columns, rows and sections (MAPC, MAPR, MAPS).
    cell : tuple of float
        Cell lengths x, y, z in Å.
    angles : tuple of float
        Cell angles in degrees.
    sampling : tuple of int
        Grid points per cell along x, y, z (MX, MY, MZ).
    nstart : tuple of int
        Index of the first column, row and section.
    origin : tuple of float
        Position in Å (x, y, z) of the map's first voxel, as used by most programs; zero where unused.
    space_group : int
        0 or 1 for one volume, 401 and above for a stack of volumes.
    labels : tuple of str
        Text labels of the file.
    extended_type : bytes
        Kind of extended header.
    extended : bytes
        Extended header.
    """

    axes: IntTriple = (1, 2, 3)
    cell: Triple = (1.0, 1.0, 1.0)
    angles: Triple = (90.0, 90.0, 90.0)
    sampling: IntTriple = (1, 1, 1)
    nstart: IntTriple = (0, 0, 0)
    origin: Triple = (0.0, 0.0, 0.0)
    space_group: int = 1
    labels: tuple[str, ...] = ()
    extended_type: bytes = b""
    extended: bytes = b""


@dataclass(frozen=True, eq=False)
class Volume:
    """An immutable map.

    Attributes
    ----------
    data : ndarray of float32, shape (sections, rows, columns)
        Values in the order of the file, read-only. With the usual axis order this is (z, y, x); maps with
        permuted axes stay as they are, so that results can be written back voxel for voxel.
    voxel_size : tuple of float
        Å per voxel along the axes of ``data`` (sections, rows, columns).
    frame : Frame
        Position, cell and file axis order.
    name : str
        For messages and output names.
    notices : tuple of Notice
        What was doubtful about the file.
    """

    data: npt.NDArray[np.float32]
    voxel_size: Triple
    frame: Frame = field(default_factory=Frame)
    name: str = "map"
    notices: tuple[Notice, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.data, np.ndarray):
            raise TypeError(f"a map's data must be an array, not {type(self.data).__name__}")
        if self.data.ndim != 3:
            raise ValueError(f"a map has three dimensions, not {self.data.ndim}")
        if len(self.voxel_size) != 3 or not all(np.isfinite(a) and a > 0 for a in self.voxel_size):
            raise ValueError(f"voxel size must be three positive numbers in Å, not {self.voxel_size}")
        data = np.ascontiguousarray(self.data, dtype=np.float32)
        object.__setattr__(self, "data", _read_only(data))
        object.__setattr__(self, "voxel_size", tuple(float(a) for a in self.voxel_size))
        if self.frame == Frame():
            # Nothing was said about the cell: it is the box.
            sampling = data.shape[::-1]
            cell = tuple(n * a for n, a in zip(sampling, self.voxel_size[::-1], strict=True))
            object.__setattr__(self, "frame", replace(self.frame, cell=cell, sampling=sampling))

    @classmethod
    def from_array(cls, data: npt.NDArray[Any], voxel_size: float | Triple, name: str = "map") -> Volume:
        """Make a volume at the coordinate origin from an array (z, y, x) and a voxel size in Å."""
        size = (voxel_size,) * 3 if isinstance(voxel_size, (int, float)) else tuple(voxel_size)
        array = np.asarray(data)
        if array.ndim != 3:
            raise ValueError(f"a map has three dimensions, not {array.ndim}")
        return cls(array, (float(size[0]), float(size[1]), float(size[2])), name=name)

    @property
    def shape(self) -> IntTriple:
        """Number of sections, rows and columns."""
        return int(self.data.shape[0]), int(self.data.shape[1]), int(self.data.shape[2])

    def with_data(self, data: npt.NDArray[Any], name: str | None = None) -> Volume:
        """Return other values on the same grid."""
        if data.shape != self.data.shape:
            raise ValueError(f"data of shape {data.shape} do not fit a map of shape {self.data.shape}")
        return replace(self, data=data, name=self.name if name is None else name)

    def same_grid(self, other: Volume) -> bool:
        """Tell whether both have the same number of voxels, voxel sizes (to 1 %) and axis order."""
        return (
            self.shape == other.shape
            and self.frame.axes == other.frame.axes
            and bool(np.allclose(self.voxel_size, other.voxel_size, rtol=0.01))
        )

    def position(self, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return where voxels lie in space, as ChimeraX places them.

        Parameters
        ----------
        index : array_like, shape (..., 3)
            Indices into ``data`` (section, row, column), fractions allowed.

        Returns
        -------
        ndarray, shape (..., 3)
            x, y, z in Å. The ORIGIN record counts where it is not zero, otherwise NSTART does. Values that
            can't be meant (so large that voxels could not be told apart, or more than ten boxes away) are
            taken as not set.
        """
        points = np.asarray(index, dtype=np.float64)
        out = np.empty(points.shape)
        by_start, nstart = not self._origin_counts(), self._usable_nstart()
        for position, axis in enumerate(self.frame.axes):  # columns, rows, sections
            along = 2 - position
            first = nstart[position] if by_start else 0
            shift = 0.0 if by_start else self.frame.origin[axis - 1]
            out[..., axis - 1] = (points[..., along] + first) * self.voxel_size[along] + shift
        return out

    def _origin_counts(self) -> bool:
        """Tell whether ORIGIN is set, and to something that single precision can add a voxel to."""
        origin = np.array(self.frame.origin, dtype=np.float32)
        with np.errstate(over="ignore"):
            apart = origin + np.array(self.spacing, dtype=np.float32) != origin
        return bool(np.any(origin) and np.all(apart))

    def _usable_nstart(self) -> IntTriple:
        """Return NSTART, or zeros where it lies more than ten boxes away and was hardly set."""
        limit = 10 * max(*self.frame.sampling, *self.shape)
        return self.frame.nstart if all(abs(n) <= limit for n in self.frame.nstart) else (0, 0, 0)

    @property
    def spacing(self) -> Triple:
        """Å per voxel along x, y, z, whatever the file's axis order."""
        sections, rows, columns = self.voxel_size
        along = dict(zip(self.frame.axes, (columns, rows, sections), strict=True))
        return along[1], along[2], along[3]

    def standard(self) -> npt.NDArray[np.float32]:
        """Return the data as a view in (z, y, x) order, whatever the file's axis order."""
        columns, rows, sections = self.frame.axes
        along = {sections: 0, rows: 1, columns: 2}
        return self.data.transpose(along[3], along[2], along[1])
