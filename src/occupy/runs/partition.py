"""What one run says of every particle, and entries that belong to one particle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Partition:
    """The class of every particle in one run.

    Attributes
    ----------
    name : str
        Of the run.
    classes : tuple of int
        Numbers of its K classes, as the run counts them.
    labels : ndarray of int64, shape (N,), read-only
        For each entry the index of its class in `classes`.
    certainty : ndarray of float64, shape (N,), or None
        Probability of that class, as the run states it.
    """

    name: str
    classes: tuple[int, ...]
    labels: Integers
    certainty: Reals | None = None

    def __post_init__(self) -> None:
        labels = np.array(self.labels, dtype=np.int64)
        if labels.ndim != 1 or (labels.size and not 0 <= labels.min() <= labels.max() < len(self.classes)):
            raise ValueError(f"{self.name}: labels should be indices of {len(self.classes)} classes")
        labels.flags.writeable = False
        object.__setattr__(self, "labels", labels)
        if self.certainty is not None:
            certainty = np.clip(np.array(self.certainty, dtype=np.float64), 0.0, 1.0)
            if certainty.shape != labels.shape:
                raise ValueError(f"{self.name}: {len(certainty)} probabilities of {len(labels)} particles")
            certainty.flags.writeable = False
            object.__setattr__(self, "certainty", certainty)

    @property
    def sizes(self) -> Integers:
        """Number of entries in each class, shape (K,)."""
        return np.bincount(self.labels, minlength=len(self.classes))


def partition(name: str, numbers: npt.ArrayLike, certainty: npt.ArrayLike | None = None) -> Partition:
    """Return the partition that class numbers, one per entry, make; classes nobody is in do not exist."""
    classes, labels = np.unique(np.asarray(numbers, dtype=np.int64), return_inverse=True)
    known = None if certainty is None else np.asarray(certainty, dtype=np.float64)
    return Partition(name, tuple(classes.tolist()), labels, known)


@dataclass(frozen=True, eq=False)
class Entries:
    """Which entries of a file are views of one particle, as after symmetry expansion.

    Attributes
    ----------
    particle : ndarray of int64, shape (N,)
        Index of the particle of each entry, from 0.
    count : int
        Number of particles.
    """

    particle: Integers
    count: int

    @property
    def expanded(self) -> bool:
        """Whether any particle has more than one entry."""
        return self.count < len(self.particle)


def entries(keys: Sequence[Any] | npt.NDArray[Any]) -> Entries:
    """Return which entries have the same key: those of one particle."""
    names, particle = np.unique(np.asarray(keys), return_inverse=True)
    return Entries(particle.astype(np.int64), len(names))


def share_error(member: npt.NDArray[Any], of: Entries) -> float:
    """Return the standard error of the mean of a value per entry, counted in particles.

    Entries of one particle share its image, so they are no further evidence: the error is that of the sum of
    each particle's deviations from the mean (the linearised variance of a ratio; Cochran, Sampling
    Techniques, 1977, section 9A).

    Parameters
    ----------
    member : ndarray, shape (N,)
        The value, for example 1 where an entry is in a class.
    of : Entries
        Which entries are of which particle.
    """
    values = np.asarray(member, dtype=np.float64)
    if of.count < 2:
        return float("nan")
    sums = np.bincount(of.particle, values - values.mean(), minlength=of.count)
    return float(np.sqrt((sums**2).sum() * of.count / (of.count - 1)) / len(values))
