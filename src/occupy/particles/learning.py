"""Scale, noise and errors of poses, and which parts vary, learnt from some of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.particles.columns import NUISANCES, Block, blocks, in_order, read_block, whole_and_moments
from occupy.particles.evidence import Evidence, Fitted, evidence_of_block, fit_spread
from occupy.particles.images import ParticleImages
from occupy.particles.presence import empty_images, find_levels
from occupy.particles.refine import Model, Offsets, no_offsets, overconfidence, refine
from occupy.particles.scaling import (
    Extent,
    RefinedPoses,
    Scaling,
    displacement_variance,
    extent_of,
    fit_scaling,
    inflated,
    shell_sums,
    turned,
)
from occupy.particles.slices import Band, FourierVolumes, fourier_volumes

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]

_COARSE = (20.0, 12.0)
"""Å to which first steps towards a pose look: where it is off by more than a fine shell's wave, fine shells
lead astray."""


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be done.

    Attributes
    ----------
    images : ParticleImages
        At known poses.
    band : Band
        Coefficients that are used.
    volumes : ndarray of float32, shape (C, m, m, m)
        Density of each part.
    refine : bool
        Whether poses are corrected.
    threads : int
        How many.
    report : callable
        BlockEvidence stage, steps done and steps in all.
    """

    images: ParticleImages
    band: Band
    volumes: npt.NDArray[np.float32]
    refine: bool
    threads: int
    report: Callable[[str, int, int], None]

    @property
    def rounds(self) -> tuple[float, ...]:
        """Å to which each step towards a pose looks, from nothing."""
        return (*_COARSE, 0.0, 0.0) if self.refine else ()

    def model(self, known: _Known, parts: FourierVolumes) -> Model:
        """Return the parts that find poses, and the rest, at their mean amplitudes."""
        amplitudes, outside = known.scaling.amplitudes, known.outside
        sums = [
            np.tensordot((amplitudes * chosen).astype(np.float32), self.volumes, 1)
            for chosen in (~outside, outside)
        ]
        whole = whole_and_moments(sums[0], sums[1], self.band.last)
        if not outside.any():
            return Model(self.band, whole, known.scaling)
        deviation = known.covariance[np.ix_(outside, outside)]
        return Model(self.band, whole, known.scaling, parts.of(outside), deviation)


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known of all images.

    Attributes
    ----------
    scaling : Scaling
        Of each shell, and mean amplitudes.
    outside : ndarray of bool, shape (C,)
        Parts that do not take part in finding poses.
    covariance : ndarray of float64, shape (C, C)
        Of amplitudes over the particles.
    inflation : ndarray of float64, shape (5,)
        Variance of shifts and rotations over what their posterior says (`overconfidence`).
    """

    scaling: Scaling
    outside: Bits
    covariance: Array
    inflation: Array


def learn(job: Job) -> dict[str, npt.NDArray[Any]]:
    """Learn all that is common to the images.

    Poses found with a part make it look present where it is not: parts that are found to vary do not take
    part in finding poses in a second round.

    Returns
    -------
    dict of str to ndarray
        For `fitted_of`: scale and noise of each shell, mean amplitudes, how far off images are, and which
        parts do not take part in finding poses.
    """
    job.report("learning", 0, 3)
    rows = _chosen(job.images.group)
    parts, none = fourier_volumes(list(job.volumes), job.band.last), np.zeros(len(job.volumes), dtype=bool)
    lesson = _lesson(job, rows, parts)
    start = RefinedPoses(job.images.matrices, np.zeros((len(job.images), len(NUISANCES))), none)
    scaling = fit_scaling(shell_sums(lesson.blocks, job.band, parts, start, job.threads))
    known = _Known(scaling, none, np.zeros((len(none),) * 2), np.ones(5))
    known, offsets = lesson.fit(known, no_offsets(len(job.images)))
    job.report("learning", 1, 3)
    evidence = lesson.evidence(known, offsets)
    empty = empty_images(evidence)
    if empty.any():
        evidence = evidence.of(np.flatnonzero(~empty)).about_its_mean()
        lesson = _lesson(job, np.concatenate([each.rows for each in lesson.blocks])[~empty], parts)
    spread = fit_spread(evidence)
    varying = find_levels(evidence, spread).varying
    outside = varying if not varying.all() else none
    if outside.any() or empty.any():
        job.report("learning", 2, 3)
        ridge = 1e-4 * np.diag(known.scaling.amplitudes**2)
        known = replace(known, outside=outside, covariance=spread.covariance + ridge)
        known, offsets = lesson.fit(known, offsets)
    return {
        "scale": known.scaling.scale, "noise": known.scaling.noise, "amplitudes": known.scaling.amplitudes,
        "spread": offsets.spread, "outside": outside, "covariance": known.covariance,
        "inflation": known.inflation,
    }  # fmt: skip


def fitted_of(job: Job, learnt: dict[str, npt.NDArray[Any]]) -> Fitted:
    """Return what was learnt, ready to look at images with."""
    scaling = Scaling(learnt["scale"], learnt["noise"], learnt["amplitudes"])
    parts = fourier_volumes(list(job.volumes), job.band.last)
    known = _Known(scaling, learnt["outside"], learnt["covariance"], learnt["inflation"])
    return _fitted(job, parts, _extent(job), known, learnt["spread"])


def _chosen(group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Evenly spaced images of each optics group."""
    found = []
    for number in np.unique(group):
        rows = np.flatnonzero(group == number)
        # Scale and noise of a shell are means over some hundred thousand numbers of 5000 images.
        count = min(len(rows), max(500, round(5000 * len(rows) / len(group))))
        found.append(rows[np.arange(count) * len(rows) // count])
    return np.concatenate(found).astype(np.int64)


def _lesson(job: Job, rows: npt.NDArray[np.int64], parts: FourierVolumes) -> _Lesson:
    """Read images to learn from."""
    tasks = blocks(job.images.group, rows)
    seen = list(in_order(lambda rows: read_block(job.images, job.band, rows), tasks, job.threads))
    return _Lesson(job, seen, parts, _extent(job))


def _extent(job: Job) -> Extent:
    return extent_of(job.volumes, job.band.side / job.volumes.shape[1])


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Images to learn from, and what they are compared with."""

    job: Job
    blocks: Sequence[Block]
    parts: FourierVolumes
    extent: Extent

    def fit(self, known: _Known, offsets: Offsets) -> tuple[_Known, Offsets]:
        """Fit scaling and poses alternately."""
        job, matrices = self.job, self.job.images.matrices
        for rounds in ((*_COARSE, 0.0), (0.0, 0.0)):
            model = job.model(known, self.parts)
            offsets = refine(self.blocks, matrices, model, offsets, rounds, job.threads)
            if not job.refine:
                offsets = offsets.unmoved()
            else:
                # How sure poses are shows in sixteen blocks.
                some = self.blocks[:: -(-len(self.blocks) // 16)]
                inflation = overconfidence(some, matrices, model, offsets.spread, job.rounds, job.threads)
                known = replace(known, inflation=inflation)
            here = turned(matrices, offsets.values)
            covariance = inflated(offsets.covariance, known.inflation)
            variance = displacement_variance(covariance, here, self.extent)
            seen = RefinedPoses(matrices, offsets.values, known.outside, variance)
            sums = shell_sums(self.blocks, job.band, self.parts, seen, job.threads)
            known = replace(known, scaling=fit_scaling(sums))
        return known, offsets

    def evidence(self, known: _Known, offsets: Offsets) -> Evidence:
        """Look at these images only."""
        job, matrices = self.job, self.job.images.matrices
        fitted = _fitted(job, self.parts, self.extent, known, offsets.spread)
        told = list(
            in_order(
                lambda block: evidence_of_block(block, matrices[block.rows], fitted), self.blocks, job.threads
            )
        )
        gradient = np.concatenate([each.gradient for each in told])
        curvature = np.concatenate([each.curvature for each in told])
        return Evidence(gradient, curvature, known.scaling.amplitudes)


def _fitted(job: Job, parts: FourierVolumes, extent: Extent, known: _Known, spread: Array) -> Fitted:
    model = job.model(known, parts)
    return Fitted(model, parts, extent, spread, known.inflation, known.outside, job.rounds)
