"""One class of one iteration: from what RELION made of it to what it gets back.

Means over shells of the weights RELION hands over tell what its prior did; what earlier calls left for later
ones lies in the job's folder.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.atomic import atomic_file, make_folder
from occupy.io.loop import ReconstructionCall, half_complex
from occupy.numerics.spectra import Spectrum, even_size, map_of, resize, spectrum_of
from occupy.relion.options import HookOptions, RunningJob
from occupy.relion.separation import (
    LOOP,
    ClassSpectrum,
    SpecificPart,
    choose_bands,
    on_shells,
    shared_part,
)


@dataclass(frozen=True)
class _SeparatedClass:
    """The map RELION gets back, and what is recorded of it.

    Attributes
    ----------
    map : ndarray of float32, shape (box, box, box)
        What all classes share plus what is this one's own.
    own : SpecificPart
        The latter.
    classes : int
        How many classes were compared.
    particles : float
        Estimated particles in this class.
    share_of_map : float
        Standard deviation of the own part relative to the shared one's.
    agreement, amplitude : float
        Correlation with RELION's map, and how much of that is in this one (1: all of it).
    """

    map: npt.NDArray[np.float32]
    own: SpecificPart
    classes: int
    particles: float
    share_of_map: float
    agreement: float
    amplitude: float

    @property
    def plausible(self) -> bool:
        """Tell whether this can be RELION's map with less noise."""
        near = 1 / LOOP.most_amplitude <= self.amplitude <= LOOP.most_amplitude
        return self.agreement >= LOOP.least_agreement and near and bool(np.isfinite(self.map).all())


def reduce_map(
    data: npt.NDArray[np.float32], weights: _ShellWeights, call: ReconstructionCall
) -> ClassSpectrum:
    """Keep of a map what later calls need: its spectrum up to the current size."""
    m = min(call.box, even_size(2 * call.shells + 2))
    return ClassSpectrum(spectrum_of(data, m), weights.weight, weights.factor)


def separate(
    mine: ClassSpectrum,
    earlier: tuple[StoredClass, ...],
    call: ReconstructionCall,
    job: RunningJob,
    options: HookOptions,
) -> _SeparatedClass:
    """Return a class as the shared part plus its own.

    Parameters
    ----------
    mine : ClassSpectrum
        This class.
    earlier : tuple of StoredClass
        All classes of an earlier iteration, at least two.
    call, job, options
        What is known.
    """
    maps = _common_shells([mine, *(one.map for one in earlier)])
    m = max(len(one.spectrum) for one in maps)
    shared = shared_part(maps[1:], m)
    # RELION's prior of the whole map is an upper bound for that of a part of it. Where the earlier iteration
    # had no data (RELION's current size grows) nothing can be said of a difference.
    known = shared.weight > 0
    factor = maps[0].factor * known
    difference = (maps[0].unshrunk(m) - shared.mean) * on_shells(factor, m)
    length = call.box * (options.pixel_size or job.pixel_size or 1.0)
    finest = max(options.finest, length / (call.shells - 1))
    diameter = options.diameter or job.diameter or length
    radius = min(diameter / 2, 0.47 * length) / length
    particles = _particles(maps, job)
    own = SpecificPart.of(
        difference,
        factor**2 / np.maximum(maps[0].weight, 1e-30),
        choose_bands(length, finest),
        radius,
        options.budget * max(particles, _least(job, len(earlier))) if particles else float("inf"),
        options.strength,
    )
    base = shared.mean * on_shells(shared.factor, m) + resize(mine.spectrum, m) * on_shells(
        (~known).astype(np.float32), m
    )
    share = float(np.linalg.norm(own.spectrum)) / max(float(np.linalg.norm(base)), 1e-30)
    result = base + own.spectrum
    likeness = _likeness(resize(mine.spectrum, m), result)
    return _SeparatedClass(map_of(result, call.box), own, len(maps) - 1, particles, share, *likeness)


def _likeness(a: Spectrum, b: Spectrum) -> tuple[float, float]:
    """Return the correlation of two maps and the best factor from the first to the second, means left out.

    Both are 0 where a map has nothing but its mean.
    """
    product, first, second = (
        float((x * y.conj()).real.sum() - (x[0, 0, 0] * y[0, 0, 0].conjugate()).real)
        for x, y in ((a, b), (a, a), (b, b))
    )
    if not (first > 0 and second > 0):
        return 0.0, 0.0
    return product / (first * second) ** 0.5, product / first


def _least(job: RunningJob, classes: int) -> float:
    """Return the particles for which a small class is given a budget.

    A class that loses particles would be allowed ever less of its own, come ever closer to the shared part
    and lose the rest: its own part must not shrink faster than its evidence.
    """
    return LOOP.least_share * (job.particles or 0) / max(classes, 1)


def _particles(maps: list[ClassSpectrum], job: RunningJob) -> float:
    """Estimate the particles in the first class from its share of the weights; 0 where nothing is known."""
    if not job.particles:
        return 0.0
    known = min(len(one.weight.nonzero()[0]) for one in maps)
    total = sum(float(one.weight[:known].sum()) for one in maps[1:])
    return job.particles * min(1.0, float(maps[0].weight[:known].sum()) / max(total, 1e-30))


@dataclass(frozen=True)
class _ShellWeights:
    """Means over shells of what RELION knows.

    Attributes
    ----------
    weight : ndarray of float32, shape (shells,)
        Mean weight.
    factor : ndarray of float32, shape (shells,)
        Mean of W / (W + 1/(T τ²)): what the prior left.
    """

    weight: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]


def read_weights(call: ReconstructionCall) -> _ShellWeights:
    """Read the weights of a call and average them over shells.

    The file is mapped, and of a large one only every n-th row is read.
    """
    grid = half_complex(call.weight)
    n = grid.shape[0]
    reach = int((call.shells - 1) * call.padding) + 1
    k = np.fft.fftfreq(n) * n
    rows = np.flatnonzero(np.abs(k) <= reach)
    columns = min(grid.shape[2], reach + 1)
    step = max(1, round((len(rows) ** 2 * columns / LOOP.most_weights) ** 0.5))
    rows = rows[::step]
    values = np.asarray(grid[np.ix_(rows, rows, np.arange(columns))], dtype=np.float64)
    squares = k[rows][:, None, None] ** 2 + k[rows][None, :, None] ** 2 + np.arange(columns) ** 2
    shell = np.rint(np.sqrt(squares) / call.padding).astype(np.intp)
    return _shell_means(values, shell, call)


def _shell_means(
    values: npt.NDArray[np.float64], shell: npt.NDArray[np.intp], call: ReconstructionCall
) -> _ShellWeights:
    """Average weights and the prior's factor over shells."""
    inside = shell < call.shells
    values, shell = np.maximum(values[inside], 0), shell[inside]
    count = np.maximum(np.bincount(shell, minlength=call.shells), 1)
    mean = np.bincount(shell, values, call.shells) / count
    prior = np.zeros(call.shells)
    known = min(call.shells, len(call.tau2))
    # Sums over the padded grid are spread over padding³ as many points.
    prior[:known] = call.fudge * call.tau2[:known] * call.padding**3
    product = values * prior[shell]
    # RELION does not let weights fall below a thousandth of their shell's mean.
    product = np.maximum(product, 1e-3 * mean[shell] * prior[shell])
    factor = np.bincount(shell, product / (product + 1), call.shells) / count
    return _ShellWeights(mean.astype(np.float32), factor.astype(np.float32))


_NAME = re.compile(r"half(\d)_class(\d+)_it(\d+)\.npz")


@dataclass(frozen=True)
class StoredClass:
    """A class as a call left it.

    Attributes
    ----------
    iteration, number : int
        Iteration and class.
    map : ClassSpectrum
        As RELION reconstructed it, before anything of ours.
    box : int
        Of RELION's map.
    """

    iteration: int
    number: int
    map: ClassSpectrum
    box: int


def store_class(folder: Path, half: int, one: StoredClass) -> None:
    """Keep a class for later calls, atomically, and drop what no call can need any more."""
    make_folder(folder)
    target = folder / f"half{half}_class{one.number:03d}_it{one.iteration:03d}.npz"
    with atomic_file(target) as part, part.open("wb") as stream:
        np.savez(
            stream,
            spectrum=one.map.spectrum,
            weight=one.map.weight,
            factor=one.map.factor,
            box=np.array(one.box),
            checksum=np.array(_checksum(one)),
        )
    for path, found_half, number, iteration in _files(folder):
        old = iteration <= one.iteration - LOOP.kept_iterations
        if found_half == half and number == one.number and (old or iteration > one.iteration):
            with suppress(OSError):
                path.unlink()


def earlier_classes(folder: Path, half: int, iteration: int, box: int) -> tuple[StoredClass, ...]:
    """Return all classes of the latest earlier iteration that is on disk.

    Every class of an iteration is compared with this one set, so that none has a better reference than
    another: RELION reconstructs classes one after the other, and the last would know most. Later iterations
    were left by a run that was since continued from an earlier one. A file that is damaged, or was changed
    since it was written, counts as missing.
    """
    files = [(when, number, path) for path, h, number, when in _files(folder) if h == half]
    earlier = [when for when, _, _ in files if iteration - LOOP.kept_iterations <= when < iteration]
    if not earlier:
        return ()
    latest = max(earlier)
    loaded = (_load(path, number, when) for when, number, path in sorted(files) if when == latest)
    return tuple(one for one in loaded if one is not None and one.box == box)


def _files(folder: Path) -> list[tuple[Path, int, int, int]]:
    if not folder.is_dir():
        return []
    matches = ((path, _NAME.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return [(path, int(m[1]), int(m[2]), int(m[3])) for path, m in matches if m]


def _load(path: Path, number: int, iteration: int) -> StoredClass | None:
    try:
        with path.open("rb") as stream, np.load(stream) as data:
            one = ClassSpectrum(data["spectrum"], data["weight"], data["factor"])
            found = StoredClass(iteration, number, one, int(data["box"]))
            return found if str(data["checksum"]) == _checksum(found) else None
    except (OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        return None


def _checksum(one: StoredClass) -> str:
    """Return a digest of a class, of which call it is included."""
    found = hashlib.sha256(f"{one.iteration} {one.number} {one.box}".encode())
    for array in (one.map.spectrum, one.map.weight, one.map.factor):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _common_shells(maps: list[ClassSpectrum]) -> list[ClassSpectrum]:
    """Bring classes to the same number of shells: RELION's current size may have changed between calls.

    Shells that a class has no data for get no weight.
    """
    most = max((len(one.weight) for one in maps), default=0)
    if not most:
        raise InputError("no class has data")
    return [ClassSpectrum(one.spectrum, _fill(one.weight, most), _fill(one.factor, most)) for one in maps]


def _fill(values: npt.NDArray[np.float32], length: int) -> npt.NDArray[np.float32]:
    return np.pad(values, (0, length - len(values)))
