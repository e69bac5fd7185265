"""The whole way from images at known poses to who has what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError, Notice
from occupy.particles.columns import Poses, Setup, whole_and_moments
from occupy.particles.covariance import fit_spread
from occupy.particles.evidence import Evidence, Fitted, evidence_of
from occupy.particles.images import ParticleImages
from occupy.particles.presence import Levels, find_levels
from occupy.particles.refine import Extent, Offsets, displacement_variance, extent_of, moved, refine
from occupy.particles.scaling import Scaling, fit_scaling, shell_sums
from occupy.particles.slices import Band, FourierVolumes, band_between, fourier_volumes
from occupy.particles.states import (
    Mixture,
    find_states,
    fit_weights,
    presence_correlations,
    responsibilities,
)

Array = npt.NDArray[np.float64]
Volumes = npt.NDArray[np.float32]
Report = Callable[[str, int, int], None]

LONGEST = 60.0
"""Å: coarser shells hold the ice's gradient and the particle's edge more than its parts."""

SHORTEST = 8.0
"""Å: finer shells hold little of single images and suffer from every error of pose. 12 in its
place changed occupancies of channel by up to 0.015."""

CYCLES = 2
"""Alternations of scaling and poses per stage; a third moved occupancies of channel by up to 0.01."""

SAMPLE = 20_000
"""Images, evenly spaced, from which it is learnt which parts vary and which states there are; populations are
fitted to all images."""

_PIECE = 2048


@dataclass(frozen=True)
class Options:
    """What can be asked for.

    Attributes
    ----------
    longest, shortest : float
        Å: resolutions between which images are used.
    refine : bool
        Whether small errors of the poses are estimated; they are marginalised in any case.
    threads : int
        How many.
    """

    longest: float = LONGEST
    shortest: float = SHORTEST
    refine: bool = True
    threads: int = 1


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
        Most probable state of each particle.
    state_probability : ndarray of float64, shape (N,)
        Its probability.
    offsets : Offsets
        What poses were found to be off by.
    scaling : Scaling
        Scale and noise per shell.
    band : Band
        Coefficients that were used.
    notices : tuple of Notice
        What is doubtful.
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
    offsets: Offsets
    scaling: Scaling
    band: Band
    notices: tuple[Notice, ...] = ()

    def interval(self) -> tuple[Array, Array]:
        """95 % interval of the occupancies, within 0 to 1."""
        reach = 1.96 * self.standard_error
        return np.clip(self.occupancy - reach, 0, 1), np.clip(self.occupancy + reach, 0, 1)


def grid_for(images: ParticleImages, options: Options) -> tuple[Band, int]:
    """Band of images that is used, and the voxels along each side that part volumes need for it."""
    shortest = max(options.shortest, 2.2 * images.pixel_size)
    if not options.longest > 1.5 * shortest:
        raise InputError(f"images between {options.longest:.3g} and {shortest:.3g} Å: too few shells")
    band = band_between(images.side, options.longest, shortest)
    return band, 2 * (band.first + band.shells)


def particle_occupancy(
    images: ParticleImages, names: tuple[str, ...], volumes_zyx: Volumes, options: Options, report: Report
) -> ParticleOccupancy:
    """Estimate the occupancy of parts from single images.

    Parameters
    ----------
    images : ParticleImages
        At known poses.
    names : tuple of str, length C
        Parts.
    volumes_zyx : ndarray of float32, shape (C, m, m, m)
        Density of each part in the box of the images, with m of `grid_for`. Common scale and sign do not
        matter.
    options : Options
        Settings.
    report : callable
        Told stage, steps done and steps in all.
    """
    band, _ = grid_for(images, options)
    setup = Setup(images, band)
    job = _Job(
        setup, volumes_zyx, fourier_volumes(volumes_zyx, band.first + band.shells - 1), options, report
    )
    every = np.zeros(len(names), dtype=bool)
    fitted = _fit(job, every, None)
    evidence = _evidence(job, fitted)
    sample = _sample(evidence)
    spread = fit_spread(sample)
    levels = find_levels(sample, spread)
    if levels.varying.any() and not levels.varying.all():
        # Poses found with a part make it look present where it is not: now without those that vary.
        fitted = _fit(job, levels.varying, fitted)
        evidence = _evidence(job, fitted)
        sample = _sample(evidence)
        levels = find_levels(sample, fit_spread(sample, spread))
    report("states", 0, 0)
    return _summary(names, fitted, evidence, levels, band)


@dataclass(frozen=True, eq=False)
class _Job:
    setup: Setup
    volumes: Volumes
    parts: FourierVolumes
    options: Options
    report: Report

    @property
    def extent(self) -> Extent:
        return extent_of(self.volumes, self.setup.band.side / self.volumes.shape[1])

    def whole(self, scaling: Scaling, outside: npt.NDArray[np.bool_]) -> FourierVolumes:
        last = self.setup.band.first + self.setup.band.shells - 1
        sums = [
            np.tensordot((scaling.amplitudes * chosen).astype(np.float32), self.volumes, 1)
            for chosen in (~outside, outside)
        ]
        return whole_and_moments(sums[0], sums[1], last)


def _fit(job: _Job, outside: npt.NDArray[np.bool_], earlier: Fitted | None) -> Fitted:
    """Fit scaling and poses alternately."""
    setup, threads, extent = job.setup, job.options.threads, job.extent
    start = Poses(setup.images.matrices, setup.images.shifts)
    if earlier is None:
        job.report("scaling", 0, 0)
        scaling = fit_scaling(shell_sums(setup, start, job.parts, threads))
        offsets: Offsets | None = None
    else:
        scaling, offsets = earlier.scaling, earlier.offsets
    for cycle in range(CYCLES):
        job.report("poses", cycle, CYCLES)
        offsets = refine(setup, start, job.whole(scaling, outside), scaling, 2, threads, offsets)
        if not job.options.refine:
            offsets = offsets.unmoved()
        poses = moved(start, offsets.values)
        variance = displacement_variance(offsets.covariance, poses.matrices, extent)
        scaling = fit_scaling(shell_sums(setup, poses, job.parts, threads, variance, outside))
    assert offsets is not None
    return Fitted(moved(start, offsets.values), offsets, scaling, outside)


def _evidence(job: _Job, fitted: Fitted) -> Evidence:
    job.report("parts", 0, 0)
    whole = job.whole(fitted.scaling, fitted.outside)
    return evidence_of(job.setup, fitted, job.parts, whole, job.extent, job.options.threads)


def _sample(evidence: Evidence) -> Evidence:
    step = -(-len(evidence) // SAMPLE)
    return evidence if step == 1 else evidence.of(slice(None, None, step))


def _summary(
    names: tuple[str, ...], fitted: Fitted, evidence: Evidence, levels: Levels, band: Band
) -> ParticleOccupancy:
    level = np.full(len(names), levels.full)
    sample = _sample(evidence)
    mixture = find_states(sample, levels.varying, level)
    if len(sample) < len(evidence):
        mixture = fit_weights(evidence, mixture, level)
    presence = np.empty((len(evidence), len(names)), dtype=np.float32)
    state, chance = np.empty(len(evidence), dtype=np.int64), np.empty(len(evidence))
    scores = np.zeros((len(mixture.bits),) * 2)
    for begin in range(0, len(evidence), _PIECE):
        rows = slice(begin, begin + _PIECE)
        found = responsibilities(evidence, rows, mixture)[0]
        presence[rows], state[rows], chance[rows] = found @ mixture.bits, found.argmax(1), found.max(1)
        away = found / mixture.weights - 1
        scores += away.T @ away
    mean = evidence.amplitudes / levels.full
    occupancy = np.where(levels.varying, mixture.occupancy, np.minimum(mean, 1.0))
    population_covariance = _population_covariance(scores, mixture.weights)
    bits = mixture.bits.astype(np.float64)
    by_states = np.sqrt(np.maximum(np.einsum("si,st,ti->i", bits, population_covariance, bits), 0))
    by_images = levels.standard_error / levels.full * np.sqrt(len(sample) / len(evidence))
    noise = np.where(levels.varying, by_states, by_images)
    error = np.hypot(noise, levels.common_error * np.maximum(occupancy, 0.1))
    correlation, correlation_error = presence_correlations(sample, mixture, level)
    return ParticleOccupancy(
        names, occupancy, error, mean, levels, correlation, correlation_error, mixture,
        np.sqrt(np.maximum(np.diag(population_covariance), 0)), presence, state, chance, fitted.offsets,
        fitted.scaling, band, _doubtful(names, mean, levels),
    )  # fmt: skip


def _population_covariance(scores: Array, weights: Array) -> Array:
    """Covariance of populations as the inverse of the information (outer product of the scores).

    This is the variance for another sample of particles; what choosing them adds is part of it.
    """
    if len(weights) == 1:
        return np.zeros((1, 1))
    # Populations sum to 1: all but the first are free.
    free = np.concatenate([-np.ones((1, len(weights) - 1)), np.eye(len(weights) - 1)])
    total = free @ np.linalg.pinv(free.T @ scores @ free) @ free.T
    return np.asarray(total)


def _doubtful(names: tuple[str, ...], mean: Array, levels: Levels) -> tuple[Notice, ...]:
    notices = []
    if levels.varying.all():
        notices.append(
            Notice(
                "no-core", "no part is there in all particles: occupancies are relative to the fullest parts"
            )
        )
    above = [
        name for name, value in zip(names, mean, strict=True) if value > 1 + 4 * levels.common_error + 0.05
    ]
    if above:
        notices.append(
            Notice(
                "above-full",
                f"above full: {', '.join(above)}; does the model fit, and is its sequence right?",
            )
        )
    return tuple(notices)
