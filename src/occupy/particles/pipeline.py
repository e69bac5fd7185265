"""The whole way from images at known poses to who has what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError, Notice
from occupy.numerics.parallel import one_blas_thread
from occupy.particles.columns import blocks, in_order, read_block
from occupy.particles.evidence import (
    BlockEvidence,
    Evidence,
    Fitted,
    Spread,
    evidence_of_block,
    false_spread,
    fit_spread,
)
from occupy.particles.images import ParticleImages
from occupy.particles.learning import Job, fitted_of, learn
from occupy.particles.maps import Residual, find_residual, reconstruct, residual_notices
from occupy.particles.presence import Levels, empty_images, find_levels
from occupy.particles.scaling import Scaling
from occupy.particles.slices import Band, band_between
from occupy.particles.states import (
    Mixture,
    find_states,
    fit_weights,
    mixture_errors,
    presence_correlations,
    responsibilities,
)
from occupy.particles.symmetry import Copies, Entries, entries_of
from occupy.particles.views import Views, presence_by_view, view_notices

if TYPE_CHECKING:
    from occupy.particles.agreement import ImagesAndMap

Array = npt.NDArray[np.float64]
Volumes = npt.NDArray[np.float32]
Bits = npt.NDArray[np.bool_]
Arrays = dict[str, npt.NDArray[Any]]
Report = Callable[[str, int, int], None]

SHORTEST = 8.0
"""Å: finer shells hold little of single images and suffer from every error of pose. 12 in its
place changed occupancies of channel by up to 0.015."""

_MAPS, _IN_MAP = 8, 20
"""States that maps are made of, and particles a map needs."""

_CHUNK = 64
"""Blocks of images whose results are kept together."""


class _Store(Protocol):
    """Where finished work is kept, so that a run that was killed goes on."""

    def load(self, name: str) -> Arrays | None:
        """Return arrays that were kept under a name, or None."""

    def save(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under a name."""


@dataclass(frozen=True)
class Options:
    """What can be asked for.

    Attributes
    ----------
    longest, shortest : float
        Å: resolutions between which images are used. The coarsest shells tell much about large parts:
        without those beyond 60 Å states of single images are told apart worse (benchmarks/particles, channel:
        ARI 0.70 in place of 0.85). How noisy shells are is learnt.
    refine : bool
        Whether small errors of the poses are estimated; they are marginalised in any case.
    threads : int
        How many.
    full_densities : bool
        Whether densities are those of parts that are there, as a model's are; a map's are lower where parts
        are missing in some particles, and what their amplitude is where they are present is then left open.
    """

    longest: float = inf
    shortest: float = SHORTEST
    refine: bool = True
    threads: int = 1
    full_densities: bool = True


@dataclass(frozen=True, eq=False)
class ParticleOccupancy:
    """Who has what.

    Attributes
    ----------
    names : tuple of str, length C
        Parts.
    occupancy, standard_error : ndarray of float64, shape (C,)
        Share of the particles that have each part; relative to the parts that are always there.
    mean_amplitude : ndarray of float64, shape (C,)
        By least squares alone, same scale: occupancy times how well the density given fits.
    levels : Levels
        Which parts vary, and by how much that is sure.
    correlation, correlation_error : ndarray of float64, shape (C, C)
        Of presence, over the particles; nan for parts that do not vary.
    states : Mixture
        Combinations of parts and their populations.
    state_error : ndarray of float64, shape (S,)
        Standard errors of the populations.
    presence : ndarray of float32, shape (N, C)
        Probability that a particle has a part.
    state : ndarray of int64, shape (N,)
        Most probable state of each particle; the number of states where an image holds none.
    state_probability : ndarray of float64, shape (N,)
        Its probability.
    offsets : ndarray of float32, shape (N, 7)
        What each image was found to be off by (`occupy.particles.columns.NUISANCES`).
    offsets_spread, offsets_left : ndarray of float64, shape (7,)
        Standard deviation over images, and what remains unknown of each.
    scaling : Scaling
        Scale and noise per shell.
    band : Band
        Coefficients that were used.
    notices : tuple of Notice
        What is doubtful.
    views : Views, optional
        By direction of view.
    residual : Residual, optional
        What no part accounts for.
    maps : dict of int to ndarray of float32, each (m, m, m)
        Number of a state, from 1, → its reconstruction.
    copies : tuple of Copies
        Of parts that symmetry turns into each other, where particles are symmetry-expanded.
    beside : tuple of ImagesAndMap
        The same occupancies by a map, where there is one.
    """

    names: tuple[str, ...]
    occupancy: Array
    standard_error: Array
    mean_amplitude: Array
    levels: Levels
    correlation: Array
    correlation_error: Array
    states: Mixture
    state_error: Array
    presence: npt.NDArray[np.float32]
    state: npt.NDArray[np.int64]
    state_probability: Array
    offsets: npt.NDArray[np.float32]
    offsets_spread: Array
    offsets_left: Array
    scaling: Scaling
    band: Band
    notices: tuple[Notice, ...] = ()
    views: Views | None = None
    residual: Residual | None = None
    maps: Mapping[int, Volumes] = field(default_factory=dict)
    copies: tuple[Copies, ...] = ()
    beside: tuple[ImagesAndMap, ...] = ()

    @property
    def particles(self) -> str:
        """How many there are, in words."""
        return f"{len(self.state)} {'entries' if self.copies else 'particles'}"

    def interval(self) -> tuple[Array, Array]:
        """95 % interval of the occupancies, within 0 to 1."""
        reach = 1.96 * self.standard_error
        return np.clip(self.occupancy - reach, 0, 1), np.clip(self.occupancy + reach, 0, 1)


def grid_for(images: ParticleImages, options: Options) -> tuple[Band, int]:
    """Band of images that is used, and the voxels along each side that part volumes need for it."""
    shortest = max(options.shortest, 2.2 * images.pixel_size)
    longest = min(options.longest, images.side)
    # Coarser than 40 Å no part can be told from its neighbours.
    if shortest > min(40.0, longest / 1.5):
        raise InputError(f"images between {longest:.3g} and {shortest:.3g} Å: too few shells")
    band = band_between(images.side, longest, shortest)
    return band, 2 * (band.first + band.shells)


def particle_occupancy(
    images: ParticleImages, names: tuple[str, ...], volumes_zyx: Volumes, options: Options, report: Report,
    store: _Store | None = None,
) -> ParticleOccupancy:  # fmt: skip
    """Estimate the occupancy of parts from single images.

    Parameters
    ----------
    images : ParticleImages
        At known poses.
    names : tuple of str, length C
        Parts.
    volumes_zyx : ndarray of float32, shape (C, m, m, m) or (2, C, m, m, m)
        Density of each part in the box of the images, with m of `grid_for`. Common scale and sign do not
        matter. Of two sets, the images of each half are compared with theirs.
    options : Options
        Settings.
    report : callable
        BlockEvidence stage, steps done and steps in all.
    store : Store, optional
        Where finished work is kept, and found again.
    """
    band, _ = grid_for(images, options)
    apart = volumes_zyx.ndim == 5
    entries = Entries(images, names, volumes_zyx[0]) if apart else entries_of(images, names, volumes_zyx)
    with one_blas_thread():
        job = Job(entries.images, band, entries.volumes, options.refine, options.threads, report)
        fitted, look = _halves(job, volumes_zyx, store) if apart else _learn_and_look(job, store)
        look = _Look(entries.told(look.evidence), look.offsets[entries.rows], look.left)
        report("states", 0, 0)
        found = _summary(entries, fitted, look, images.matrices, options.full_densities)
        return _seen(found, images, entries, job, fitted, look)


def _learn_and_look(job: Job, store: _Store | None, prefix: str = "") -> tuple[Fitted, _Look]:
    fitted = fitted_of(job, _kept(store, f"{prefix}learnt", lambda: learn(job)))
    return fitted, _look(job, fitted, store, prefix)


def _halves(job: Job, volumes_zyx: Volumes, store: _Store | None) -> tuple[Fitted, _Look]:
    """Compare each half of the images with its own densities; what was learnt from the first is returned."""
    half = job.images.half
    assert half is not None
    rows = [np.flatnonzero(half == number) for number in (0, 1)]
    jobs = [
        replace(job, images=job.images.of(some), volumes=volumes)
        for some, volumes in zip(rows, volumes_zyx, strict=True)
    ]
    (fitted, one), (_, other) = (_learn_and_look(each, store, f"half-{n}-") for n, each in enumerate(jobs))
    order = np.argsort(np.concatenate(rows))
    onto, curvature, offsets = (
        np.concatenate(both)[order]
        for both in (
            (one.evidence.onto, other.evidence.onto),
            (one.evidence.curvature, other.evidence.curvature),
            (one.offsets, other.offsets),
        )
    )
    evidence = Evidence(onto, curvature, np.zeros(onto.shape[1])).about_its_mean()
    return fitted, _Look(evidence, offsets, np.sqrt((one.left**2 + other.left**2) / 2))


@dataclass(frozen=True, eq=False)
class _Look:
    """What all images said."""

    evidence: Evidence
    offsets: npt.NDArray[np.float32]
    left: Array


def _look(job: Job, fitted: Fitted, store: _Store | None, prefix: str = "") -> _Look:
    """Read every image once, chunk by chunk; chunks that are in the store are taken from there."""
    images, count = job.images, len(fitted.outside)
    gradient = np.empty((len(images), count), dtype=np.float32)
    curvature = np.empty((len(images), count * (count + 1) // 2), dtype=np.float32)
    offsets = np.empty((len(images), len(fitted.spread)), dtype=np.float32)
    left, normal, right = np.zeros(len(fitted.spread)), np.zeros((count, count)), np.zeros(count)
    tasks = blocks(images.group)
    chunks = [tasks[start : start + _CHUNK] for start in range(0, len(tasks), _CHUNK)]
    for number, chunk in enumerate(chunks):
        job.report("images", number, len(chunks))
        rows = np.concatenate(chunk)
        told = _kept(store, f"{prefix}images-{number}", partial(_read_chunk, job, fitted, chunk))
        gradient[rows], curvature[rows], offsets[rows] = (
            told[name] for name in ("gradient", "curvature", "offsets")
        )
        left += told["left"]
        normal += told["normal"]
        right += told["right"]
    evidence = Evidence(gradient, curvature, fitted.whole.scaling.amplitudes)
    amplitudes = np.linalg.solve(normal, right).astype(np.float64)
    return _Look(evidence.recentred(amplitudes), offsets, np.sqrt(left / len(images)))


def _kept(store: _Store | None, name: str, make: Callable[[], Arrays]) -> Arrays:
    """Arrays of the store, or made and stored."""
    if store is None:
        return make()
    found = store.load(name)
    if found is None:
        found = make()
        store.save(name, found)
    return found


def _read_chunk(job: Job, fitted: Fitted, chunk: list[npt.NDArray[np.int64]]) -> Arrays:
    """Return what the images of some blocks say, and sums over them."""
    images = job.images

    def work(rows: npt.NDArray[np.int64]) -> BlockEvidence:
        return evidence_of_block(read_block(images, job.band, rows), images.matrices[rows], fitted)

    told = list(in_order(work, chunk, job.threads))
    return {
        "gradient": np.concatenate([each.gradient for each in told]),
        "curvature": np.concatenate([each.curvature for each in told]),
        "offsets": np.concatenate([each.offsets for each in told]),
        "left": np.sum([each.left.sum(axis=0, dtype=np.float64) for each in told], axis=0),
        "normal": np.sum([each.normal for each in told], axis=0),
        "right": np.sum([each.right for each in told], axis=0),
    }


def _seen(
    found: ParticleOccupancy, images: ParticleImages, entries: Entries, job: Job, fitted: Fitted, look: _Look
) -> ParticleOccupancy:
    """Add what is to be looked at: a map of each state, and what no part accounts for."""
    maps = {}
    for number in range(min(_MAPS, len(found.states.bits))):
        job.report("maps", number, min(_MAPS, len(found.states.bits)))
        rows = np.flatnonzero(found.state == number)
        if len(rows) >= _IN_MAP:
            maps[number + 1] = reconstruct(images, look.offsets, found.scaling, job.band, rows, job.threads)
    there = found.state < len(found.states.bits)
    # Of entries that are one image, the first.
    first = np.unique(entries.rows, return_index=True)[1]
    rows, offsets = np.flatnonzero(there[first]), look.offsets[first]
    variance = found.levels.relative_variance * (found.mean_amplitude * found.levels.full) ** 2
    residual = find_residual(job.images, offsets, fitted, variance, job.volumes, rows, job.threads)
    notices = (*found.notices, *residual_notices(residual, found.names))
    return replace(found, maps=maps, residual=residual, notices=notices)


def _sample(evidence: Evidence) -> Evidence:
    # 20 000 images tell which parts vary and which states there are; populations are fitted to all.
    step = -(-len(evidence) // 20_000)
    if step == 1:
        return evidence
    number = np.arange(len(evidence)) if evidence.particle is None else evidence.particle
    return evidence.of(np.flatnonzero(number % step == 0))


def _summary(
    entries: Entries, fitted: Fitted, look: _Look, matrices: Array, full_densities: bool
) -> ParticleOccupancy:
    empty = empty_images(look.evidence)
    found = _of_particles(entries, fitted, look, matrices, full_densities, empty)
    # Where large parts come and go, images that hold nothing are a state of its own first.
    nothing = np.isin(found.state, np.flatnonzero(~found.states.bits.any(axis=1)))
    if not nothing.any():
        return found
    return _of_particles(entries, fitted, look, matrices, full_densities, empty | nothing)


def _of_particles(
    entries: Entries, fitted: Fitted, look: _Look, matrices: Array, full_densities: bool, empty: Bits
) -> ParticleOccupancy:
    names = entries.names
    seen = look.evidence.of(np.flatnonzero(~empty)).about_its_mean() if empty.any() else look.evidence
    sample = _sample(seen)
    spread = fit_spread(sample)
    levels = find_levels(sample, spread)
    level = np.where(levels.varying & (not full_densities), levels.present, levels.full)
    false = _false(sample, spread, levels)
    evidence, sample = seen.softened(false), sample.softened(false)
    mixture = find_states(sample, levels.varying, level, spread.covariance)
    if len(sample) < len(evidence):
        mixture = fit_weights(evidence, mixture, level, 10)
    presence, state, chance = _particles(evidence, mixture, empty)
    mean = evidence.amplitudes / levels.full
    occupancy = np.where(levels.varying, mixture.occupancy, np.minimum(mean, 1.0))
    populations = mixture_errors(sample, mixture, level, len(evidence))
    bits = mixture.bits.astype(np.float64)
    by_states = np.sqrt(np.maximum(np.einsum("si,st,ti->i", bits, populations, bits), 0))
    by_images = levels.standard_error / levels.full * np.sqrt(len(sample) / len(evidence))
    noise = np.where(levels.varying, by_states, by_images)
    # Of what is neither always there nor present or absent next to nothing is known.
    noise = np.where(levels.unclear, 0.5, noise)
    error = np.hypot(noise, levels.common_error * np.maximum(occupancy, 0.1))
    views = presence_by_view(evidence, matrices[~empty], spread, levels, occupancy)
    correlation, correlation_error = presence_correlations(sample, mixture)
    return ParticleOccupancy(
        names, occupancy, error, mean, levels, correlation, correlation_error, mixture,
        np.sqrt(np.maximum(np.diag(populations), 0)), presence, state, chance, look.offsets, fitted.spread,
        look.left, fitted.whole.scaling, fitted.whole.band,
        (*entries.notices, *_doubtful(names, mean, levels, empty), *_far_off(fitted, look.left),
         *view_notices(views, names)),
        views,
        copies=entries.copies(look.evidence.softened(false), spread, levels, fitted.extent.centre),
    )  # fmt: skip


def _false(evidence: Evidence, spread: Spread, levels: Levels) -> Array:
    """Covariance of amplitudes where nothing comes or goes."""
    constant = ~levels.varying if not levels.varying.all() else evidence.amplitudes >= 0.9 * levels.full
    common, single = false_spread(evidence, spread, constant)
    return np.asarray(levels.full**2 * (common + single * np.eye(evidence.parts)))


def _particles(
    evidence: Evidence, mixture: Mixture, empty: Bits
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], Array]:
    """Probability of each part, most probable state and its probability, of every image.

    Images without a particle have no part, and a state of their own after all others.
    """
    presence = np.zeros((len(empty), evidence.parts), dtype=np.float32)
    state, chance = np.full(len(empty), len(mixture.bits), dtype=np.int64), np.ones(len(empty))
    numbers = np.flatnonzero(~empty)
    for piece in evidence.pieces():
        found, rows = responsibilities(evidence, piece, mixture)[0], numbers[piece]
        presence[rows], state[rows], chance[rows] = found @ mixture.bits, found.argmax(1), found.max(1)
    return presence, state, chance


def _doubtful(names: tuple[str, ...], mean: Array, levels: Levels, empty: Bits) -> tuple[Notice, ...]:
    notices = []
    if empty.any():
        share = f"{empty.sum()} of {len(empty)} images"
        text = f"{share} hold no particle at their pose: left out of all numbers, in a state after the last"
        notices.append(Notice("empty-images", text))
    if levels.varying.all():
        notices.append(
            Notice(
                "no-core", "no part is there in all particles: occupancies are relative to the fullest parts"
            )
        )
    unclear = [name for name, each in zip(names, levels.unclear, strict=True) if each]
    if unclear:
        text = (
            f"varies, but not between absent and present: {', '.join(unclear)}; its occupancy is not known. "
        )
        notices.append(
            Notice("unclear", text + "It moves, or its mask or model holds more than comes and goes")
        )
    error = np.hypot(levels.standard_error / levels.full, levels.common_error)
    above = [name for name, value, e in zip(names, mean, error, strict=True) if value > 1.05 + 4 * e]
    if above:
        notices.append(
            Notice(
                "above-full",
                f"above full: {', '.join(above)}; does the model fit, and is its sequence right?",
            )
        )
    return tuple(notices)


def _far_off(fitted: Fitted, left: Array) -> tuple[Notice, ...]:
    """Say so where poses are too far off for what is used of the images."""
    finest = fitted.whole.band.side / fitted.whole.band.last
    away = fitted.extent
    # A rotation by a variance about each axis moves a point at r by two thirds of r² times that, per axis.
    squared = (away.centre**2).sum(axis=1) + np.trace(away.second, axis1=1, axis2=2)
    turned = 2 / 3 * float(squared.mean()) * float((left[3:6] ** 2).mean())
    unknown = float(np.sqrt(turned + (left[1:3] ** 2).mean()))
    # Parts may be misplaced by a fifth of the finest resolution before it is worth a warning.
    if unknown < 0.2 * finest:
        return ()
    text = (
        f"parts are placed to {unknown:.1f} Å only (poses were off by {fitted.spread[1]:.1f} Å and "
        f"{np.degrees(fitted.spread[3]):.1f}°): occupancies are less sure than their intervals say"
    )
    return (Notice("poses", text),)
