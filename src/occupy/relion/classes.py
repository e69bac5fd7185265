"""One class of one iteration: from what RELION made of it to what it gets back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.io.exchange import Exchange
from occupy.numerics.spectra import Spectrum, even_size, map_of, resize, spectrum_of
from occupy.relion.options import Options
from occupy.relion.running import Job
from occupy.relion.separation import (
    ClassMap,
    OwnPart,
    choose_bands,
    on_shells,
    own_part,
    shared_part,
    unshrunk,
)
from occupy.relion.state import Stored, common_shells
from occupy.relion.weights import Weights

LEAST_SHARE = 0.5
"""Of an even share of the particles: the budget of a class is not smaller than this one's."""

LEAST_AGREEMENT = 0.5
"""A result that correlates less with RELION's map is not that map with less noise: something is wrong."""

MOST_AMPLITUDE = 3.0
"""… nor is one in which RELION's map is stronger by this factor, or weaker."""


@dataclass(frozen=True)
class Separated:
    """The map RELION gets back, and what is recorded of it.

    Attributes
    ----------
    map : ndarray of float32, shape (box, box, box)
        What all classes share plus what is this one's own.
    own : OwnPart
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
    own: OwnPart
    classes: int
    particles: float
    share_of_map: float
    agreement: float
    amplitude: float

    @property
    def plausible(self) -> bool:
        """Tell whether this can be RELION's map with less noise."""
        near = 1 / MOST_AMPLITUDE <= self.amplitude <= MOST_AMPLITUDE
        return self.agreement >= LEAST_AGREEMENT and near and bool(np.isfinite(self.map).all())


def reduce_map(data: npt.NDArray[np.float32], weights: Weights, call: Exchange) -> ClassMap:
    """Keep of a map what later calls need: its spectrum up to the current size."""
    m = min(call.box, even_size(2 * call.shells + 2))
    return ClassMap(spectrum_of(data, m), weights.weight, weights.factor)


def separate(
    mine: ClassMap, earlier: tuple[Stored, ...], call: Exchange, job: Job, options: Options
) -> Separated:
    """Return a class as the shared part plus its own.

    Parameters
    ----------
    mine : ClassMap
        This class.
    earlier : tuple of Stored
        All classes of an earlier iteration, at least two.
    call, job, options
        What is known.
    """
    maps = common_shells([mine, *(one.map for one in earlier)])
    m = max(len(one.spectrum) for one in maps)
    shared = shared_part(maps[1:], m)
    # RELION's prior of the whole map is an upper bound for that of a part of it. Where the earlier iteration
    # had no data (RELION's current size grows) nothing can be said of a difference.
    known = shared.weight > 0
    factor = maps[0].factor * known
    difference = (unshrunk(maps[0], m) - shared.mean) * on_shells(factor, m)
    length = call.box * (options.pixel_size or job.pixel_size or 1.0)
    finest = max(options.finest, length / (call.shells - 1))
    diameter = options.diameter or job.diameter or length
    radius = min(diameter / 2, 0.47 * length) / length
    particles = _particles(maps, job)
    own = own_part(
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
    return Separated(map_of(result, call.box), own, len(maps) - 1, particles, share, *likeness)


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


def _least(job: Job, classes: int) -> float:
    """Return the particles for which a small class is given a budget.

    A class that loses particles would be allowed ever less of its own, come ever closer to the shared part
    and lose the rest: its own part must not shrink faster than its evidence.
    """
    return LEAST_SHARE * (job.particles or 0) / max(classes, 1)


def _particles(maps: list[ClassMap], job: Job) -> float:
    """Estimate the particles in the first class from its share of the weights; 0 where nothing is known."""
    if not job.particles:
        return 0.0
    known = min(len(one.weight.nonzero()[0]) for one in maps)
    total = sum(float(one.weight[:known].sum()) for one in maps[1:])
    return job.particles * min(1.0, float(maps[0].weight[:known].sum()) / max(total, 1e-30))
