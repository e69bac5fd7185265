"""Hypothesis strategies for arrays, footprints, headers and volumes, and MRC files as bytes: in one place."""

from __future__ import annotations

from itertools import pairwise, permutations

import mrcfile
import numpy as np
from hypothesis import strategies as st

from occupy.volume import Frame, Volume


def shapes(smallest: int = 1, largest: int = 13):
    """Box shapes (z, y, x): odd, even, prime, thin."""
    return st.tuples(*[st.integers(smallest, largest)] * 3)


def _array(shape, kind, seed):
    rng = np.random.default_rng(seed)
    if kind == "ties":
        return rng.integers(-2, 3, shape).astype(np.float32)
    if kind == "constant":
        return np.full(shape, rng.normal(), dtype=np.float32)
    if kind == "sparse":
        return (rng.normal(size=shape) * (rng.random(shape) < 0.1)).astype(np.float32)
    if kind == "offset":
        return rng.normal(1000, 0.1, shape).astype(np.float32)
    return rng.standard_normal(shape, dtype=np.float32)


MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
KINDS = ("noise", "ties", "constant", "sparse", "offset")


@st.composite
def arrays(draw, shape=None, kinds=KINDS):
    """Maps of float32: noise, few distinct values, one value, mostly zero, or a large mean."""
    size = draw(shapes()) if shape is None else shape
    return _array(size, draw(st.sampled_from(kinds)), draw(st.integers(0, 2**32 - 1)))


@st.composite
def footprints(draw, largest: int = 15):
    """Radius and odd sides of a ball, often not the same along the three axes."""
    side = st.integers(1, largest // 2).map(lambda k: 2 * k + 1)
    radius = st.floats(0.4, 9, allow_nan=False)
    if draw(st.booleans()):
        return (draw(radius),) * 3, (draw(side),) * 3
    return draw(st.tuples(radius, radius, radius)), draw(st.tuples(side, side, side))


@st.composite
def cuts(draw, planes: int):
    """Slabs [(start, stop), …] that cover range(planes), cut anywhere."""
    inner = draw(st.sets(st.integers(1, planes - 1), max_size=5)) if planes > 1 else set()
    return list(pairwise([0, *sorted(inner), planes]))


int32 = st.integers(-(2**31), 2**31 - 1)
float32 = st.floats(-1e6, 1e6, width=32)
labels = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=80).map(
    lambda text: text.rstrip(" \x00")
)


@st.composite
def frames(draw):
    """Headers with every field that can be said in an MRC file, axis orders included."""
    sampling = draw(st.tuples(*[st.integers(1, 500)] * 3))
    voxel = draw(st.tuples(*[st.floats(0.25, 50)] * 3))
    cell = tuple(float(np.float32(m * a)) for m, a in zip(sampling, voxel, strict=True))
    return Frame(
        axes=draw(st.sampled_from(list(permutations((1, 2, 3))))),
        cell=cell,
        angles=draw(st.tuples(*[st.floats(1, 179, width=32)] * 3)),
        sampling=sampling,
        nstart=draw(st.tuples(int32, int32, int32)),
        origin=draw(st.tuples(float32, float32, float32)),
        space_group=draw(st.sampled_from([0, 1, 4, 19, 230])),
        labels=tuple(draw(st.lists(labels, max_size=10))),
        extended_type=draw(st.sampled_from([b"", b"CCP4", b"MRCO", b"FEI1", b"XYZ"])),
        extended=draw(st.binary(max_size=200)),
    )


@st.composite
def volumes(draw, largest: int = 7):
    """Small volumes with any header."""
    frame = draw(frames())
    per_axis = [c / m for c, m in zip(frame.cell, frame.sampling, strict=True)]
    columns, rows, sections = (per_axis[axis - 1] for axis in frame.axes)
    data = draw(arrays(draw(shapes(1, largest))))
    return Volume(data, (sections, rows, columns), frame)


def header(shape, mode=2, order="<", **fields):
    """A plain header of 1.5 Å voxels, with fields as given."""
    record = np.zeros((), dtype=mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order))
    record["nz"], record["ny"], record["nx"] = shape
    record["mz"], record["my"], record["mx"] = shape
    record["mode"], record["map"] = mode, b"MAP "
    record["machst"] = [0x44, 0x44, 0, 0] if order == "<" else [0x11, 0x11, 0, 0]
    record["mapc"], record["mapr"], record["maps"] = 1, 2, 3
    record["ispg"], record["nversion"] = 1, 20141
    for axis, n in zip("zyx", shape, strict=True):
        record["cella"][axis] = 1.5 * n
    for angle in ("alpha", "beta", "gamma"):
        record["cellb"][angle] = 90
    for name, value in fields.items():
        record[name] = value
    return record


def content(data, mode=2, order="<", extended=b"", **fields):
    """A file as bytes."""
    array = np.asarray(data).astype(np.dtype(order + MODES[mode]))
    record = header(array.shape, mode, order, nsymbt=len(extended), **fields)
    return record.tobytes() + extended + array.tobytes()
