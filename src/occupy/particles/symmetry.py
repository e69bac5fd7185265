"""Symmetry-expanded particles: several entries show one image, each with another copy in the same place.

Each image is looked at once, with all copies; then copies are counted, and neighbours compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import comb, expit

from occupy.errors import Notice
from occupy.particles.evidence import Evidence, Spread
from occupy.particles.images import ParticleImages
from occupy.particles.presence import Levels, alone
from occupy.particles.slices import cropped

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Volumes = npt.NDArray[np.float32]

_ALIKE = 1.0
"""Degrees by which rotations may differ and be the same operation."""

_MOST_OPERATIONS, _MOST_PARTS = 60, 48
"""Operations of an icosahedron; parts, all copies counted, that one image is asked about at once."""

_SAME, _APART = 0.5, 0.3
"""Correlation from which on a turned part is one that is there; share of it that may overlap with parts that
are there if it is a new one."""

SOLID = 0.2
"""Density, relative to the highest, from which on a part counts as being there."""


@dataclass(frozen=True, eq=False)
class _Expansion:
    """Entries of the same image, related by the operations of a symmetry.

    Attributes
    ----------
    first : ndarray of int64, shape (P,)
        Row of the first entry of each of P particles.
    operation : ndarray of int64, shape (N,)
        By which operation an entry's pose differs from that of its particle's first.
    operations : ndarray of float64, shape (n, 3, 3)
        The symmetry, a group; the first is identity. An entry's pose is its first's times the operation.
    """

    first: Integers
    operation: Integers
    operations: Array

    @property
    def products(self) -> Integers:
        """Which operation it is to do one (column) and then another (row): (n, n)."""
        both = self.operations[:, None] @ self.operations[None]
        return _nearest(both.reshape(-1, 3, 3), self.operations)[0].reshape(both.shape[:2])


@dataclass(frozen=True, eq=False)
class _Copied:
    """Parts together with their copies by symmetry.

    Attributes
    ----------
    names : tuple of str, length C
        Given ones first.
    volumes : ndarray of float32, shape (C, m, m, m)
        Their densities.
    turned : ndarray of int64, shape (n, C)
        The part that each operation makes of a part.
    """

    names: tuple[str, ...]
    volumes: Volumes
    turned: Integers

    def orbits(self) -> list[Integers]:
        """Return sets of parts that symmetry turns into each other, two or more in each."""
        found = {tuple(sorted(set(column))) for column in self.turned.T.tolist()}
        return [np.array(each) for each in sorted(found) if len(each) > 1]


def find_expansion(images: ParticleImages, particle: Integers) -> _Expansion | None:
    """Find the symmetry that relates entries of the same image; None where it is none.

    Entries that were refined further, or duplicates with other poses, have no common symmetry.
    """
    first = np.unique(particle, return_index=True)[1].astype(np.int64)
    relative = images.matrices[first[particle]].transpose(0, 2, 1) @ images.matrices
    most = int(np.bincount(particle).argmax())
    operations = _group(relative[particle == most])
    if operations is None:
        return None
    operation, off = _nearest(relative, operations)
    if (off > np.radians(_ALIKE)).mean() > 0.01:
        return None
    return _Expansion(first, operation, operations)


def _nearest(rotations: Array, operations: Array) -> tuple[Integers, Array]:
    """Which operation each rotation is nearest to, and by what angle it differs."""
    traces = np.einsum("nij,kij->nk", rotations, operations)
    which = traces.argmax(axis=1)
    cosine = (traces[np.arange(len(which)), which] - 1) / 2
    return which.astype(np.int64), np.arccos(np.clip(cosine, -1, 1))


def _group(operations: Array) -> Array | None:
    """Operations and all their products, identity first; None where there is no end to them."""
    found = np.eye(3)[None]
    more = operations
    while len(more):
        for each in more:
            if _nearest(each[None], found)[1][0] > np.radians(_ALIKE):
                found = np.concatenate([found, each[None]])
        if len(found) > _MOST_OPERATIONS:
            return None
        products = (found[:, None] @ found[None]).reshape(-1, 3, 3)
        more = products[_nearest(products, found)[1] > np.radians(_ALIKE)]
    return found


def with_copies(names: tuple[str, ...], volumes_zyx: Volumes, expansion: _Expansion) -> _Copied | None:
    """Add what symmetry makes of each part, unless it is among the parts already.

    Returns
    -------
    _Copied or None
        None where a turned part lies across several of those given, or there would be too many.
    """
    count = len(names)
    turned = np.tile(np.arange(count), (len(expansion.operations), 1))
    everything, added, made = volumes_zyx.sum(axis=0), list(names), list(volumes_zyx)
    # Operation and part that each new copy was made by and of.
    births: list[tuple[int, int]] = []
    for number, operation in enumerate(expansion.operations[1:], start=1):
        for part in range(count):
            volume = _turned(volumes_zyx[part], operation)
            alike = [likeness(volume, each) for each in made]
            best = int(np.argmax(alike))
            if alike[best] < _SAME:
                if _overlap(volume, everything) > _APART or len(made) == _MOST_PARTS:
                    return None
                best = len(made)
                made.append(volume)
                births.append((number, part))
                added.append(f"{names[part]}.{1 + sum(each == part for _, each in births)}")
            turned[number, part] = best
    # What an operation makes of a new copy is what it and the copy's own make of the part given.
    more = [turned[expansion.products[:, number], part] for number, part in births]
    turned = np.column_stack([turned, *more])
    if (np.sort(turned, axis=1) != np.arange(len(made))).any():
        return None
    return _Copied(tuple(added), np.stack(made), turned)


def _turned(volume_zyx: Volumes, operation: Array) -> Volumes:
    """Volume after a rotation (of x, y, z) about voxel n // 2."""
    from scipy.ndimage import affine_transform

    # Splines do well on twice as many voxels only: the density reaches to the finest wave of its grid.
    size = 2 * len(volume_zyx)
    fine = cropped(volume_zyx, size)
    inverse = operation.T[::-1, ::-1]
    centre = np.full(3, size // 2)
    moved = affine_transform(fine, inverse, centre - inverse @ centre, order=3, mode="constant")
    return cropped(moved, len(volume_zyx))


def likeness(one: Volumes, other: Volumes) -> float:
    """Correlation of two volumes about zero."""
    norms = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.vdot(one, other)) / max(norms, 1e-30)


def _overlap(volume: Volumes, everything: Volumes) -> float:
    """Share of a volume's solid voxels that are solid already."""
    solid = volume > SOLID * volume.max()
    return float((everything[solid] > SOLID * everything.max()).mean())


def expanded(evidence: Evidence, copied: _Copied, expansion: _Expansion, particle: Integers) -> Evidence:
    """Return what every entry says of the parts in its own frame, from what their images said.

    Parameters
    ----------
    evidence : Evidence
        Of each of P images once.
    copied : _Copied
        The parts.
    expansion : _Expansion
        Of N entries.
    particle : ndarray of int64, shape (N,)
        Number of each entry's image, 0 to P − 1.
    """
    upper = np.triu_indices(evidence.parts)
    place = np.zeros((evidence.parts,) * 2, dtype=np.int64)
    place[upper] = np.arange(len(upper[0]))
    place = np.maximum(place, place.T)
    gradient = np.empty((len(particle), evidence.parts), dtype=np.float32)
    curvature = np.empty((len(particle), len(upper[0])), dtype=np.float32)
    for number, parts in enumerate(copied.turned):
        rows = np.flatnonzero(expansion.operation == number)
        images = particle[rows]
        gradient[rows] = evidence.onto[images][:, parts]
        curvature[rows] = evidence.curvature[images][:, place[parts[upper[0]], parts[upper[1]]]]
    copies = np.array([len(set(column)) for column in copied.turned.T.tolist()], dtype=np.float64)
    return Evidence(gradient, curvature, np.zeros(evidence.parts), particle, copies).about_its_mean()


@dataclass(frozen=True, eq=False)
class Entries:
    """Images that are looked at, once each, and the entries that are asked about.

    Attributes
    ----------
    images : ParticleImages
        Each image once, where symmetry relates its entries; otherwise all entries.
    names, volumes
        Parts, with their copies.
    particle : ndarray of int64, shape (N,), optional
        Number of each entry's image.
    expansion, copied : optional
        The symmetry, and what it makes of the parts.
    notices : tuple of Notice
        What is worth knowing.
    """

    images: ParticleImages
    names: tuple[str, ...]
    volumes: Volumes
    particle: Integers | None = None
    expansion: _Expansion | None = None
    copied: _Copied | None = None
    notices: tuple[Notice, ...] = ()

    @property
    def rows(self) -> Integers:
        """Of each entry, its number among the images."""
        if self.particle is None or self.expansion is None:
            return np.arange(len(self.images))
        return self.particle

    def told(self, evidence: Evidence) -> Evidence:
        """Return what every entry says, from what the images said."""
        if self.particle is None:
            return evidence
        if self.expansion is None or self.copied is None:
            return replace(evidence, particle=self.particle)
        return expanded(evidence, self.copied, self.expansion, self.particle)

    def copies(
        self, evidence: Evidence, spread: Spread, levels: Levels, centres_xyz: Array
    ) -> tuple[Copies, ...]:
        """Count copies of each part that varies, in every particle."""
        if self.particle is None:
            return ()
        chance = {
            int(part): _presence_alone(evidence, spread, int(part), levels.full)
            for part in np.flatnonzero(levels.varying)
        }
        if self.expansion is None or self.copied is None:
            return self._of_entries(chance, centres_xyz)
        first, found = self.expansion.first, []
        for orbit in self.copied.orbits():
            if levels.varying[orbit].all():
                chances = np.stack([chance[int(part)][first] for part in orbit], axis=1)
                names = [self.names[part] for part in orbit]
                found.append(_count_copies(names, chances, neighbours(centres_xyz[orbit])))
        return tuple(found)

    def _of_entries(self, chance: Mapping[int, Array], centres_xyz: Array) -> tuple[Copies, ...]:
        """Count entries that have a part, in the particles that have as many entries as most."""
        assert self.particle is not None
        entries = np.bincount(self.particle)
        most = int(np.bincount(entries).argmax())
        order = np.argsort(self.particle, kind="stable")
        rows = order[(entries == most)[self.particle[order]]].reshape(-1, most)
        found = []
        for part, each in chance.items() if most > 1 else ():
            pairs = neighbours(self.images.matrices[rows[0]] @ centres_xyz[part])
            found.append(_count_copies([self.names[part]] * most, each[rows], pairs))
        return tuple(found)


def entries_of(images: ParticleImages, names: tuple[str, ...], volumes: Volumes) -> Entries:
    """Find which entries are of one image, and what symmetry relates them."""
    particle = None if images.particle is None else np.unique(images.particle, return_inverse=True)[1]
    if particle is None or particle.max() + 1 == len(particle):
        return Entries(images, names, volumes)
    count = f"{len(particle)} entries of {particle.max() + 1} images"
    expansion = find_expansion(images, particle)
    copied = None if expansion is None else with_copies(names, volumes, expansion)
    if expansion is None or copied is None:
        why = (
            "no common symmetry relates their poses"
            if expansion is None
            else "symmetry does not fit the parts"
        )
        text = f"{count}: {why}, so each is looked at by itself; errors count images"
        return Entries(images, names, volumes, particle, notices=(Notice("expanded", text),))
    added = ", ".join(copied.names[len(names) :])
    text = (
        f"{count}, symmetry of order {len(expansion.operations)}: each image is looked at once, errors count"
    )
    text += f" images; parts added by symmetry: {added}" if added else " images"
    return Entries(
        images.of(expansion.first), copied.names, copied.volumes, particle, expansion, copied,
        (Notice("expanded", text),),
    )  # fmt: skip


_FOLDS, _STEPS = 8, 300
_PAIRS = np.array([0, 1, 1, 2])
"""Whether neither, one or both of a pair are there: of the four combinations, which is which."""


@dataclass(frozen=True, eq=False)
class Copies:
    """Copies of a part over the particles.

    Attributes
    ----------
    names : tuple of str, length n
        The part and its copies.
    shares, shares_error : ndarray of float64, shape (n + 1,)
        Share of the particles that have none, one, … all of them.
    together, together_error : float
        Share of pairs of neighbours of which both are there.
    ratio, ratio_error : float
        That, over what it were if neighbours did not know of each other: the square of the occupancy. Above 1
        they come together, below 1 they exclude each other.
    """

    names: tuple[str, ...]
    shares: Array
    shares_error: Array
    together: float
    together_error: float
    ratio: float
    ratio_error: float


def _presence_alone(evidence: Evidence, spread: Spread, part: int, level: float) -> Array:
    """Probability of a part in each image, were it there in half of them; all others are marginalised."""
    gradient, curvature = alone(evidence, spread, part)
    mean = float(evidence.amplitudes[part])
    ahead = gradient * level + curvature * (level * mean - level**2 / 2)
    return np.asarray(expit(ahead))


def neighbours(centres_xyz: Array) -> list[tuple[int, int]]:
    """Pairs of places (n, 3) that are as near to each other as any, or nearly."""
    first, second = np.triu_indices(len(centres_xyz), 1)
    away = np.linalg.norm(centres_xyz[first] - centres_xyz[second], axis=1)
    # Copies up to 1.2 times as far apart as the nearest ones are neighbours.
    near = away <= 1.2 * away.min()
    return list(zip(first[near].tolist(), second[near].tolist(), strict=True))


def _count_copies(names: Sequence[str], chance: Array, pairs: Sequence[tuple[int, int]]) -> Copies:
    """Estimate how many copies particles have, and how often both of two neighbours are there.

    Parameters
    ----------
    names : sequence of str, length n
        The part and its copies.
    chance : ndarray of float64, shape (P, n)
        Of each copy in each particle, from `_presence_alone`.
    pairs : sequence of (int, int)
        Copies that are neighbours.
    """
    ahead = _counts(chance) / comb(chance.shape[1], np.arange(chance.shape[1] + 1))
    of_pairs = np.stack([_of_pair(chance[:, one], chance[:, other]) for one, other in pairs], axis=1)
    fold = np.arange(len(chance)) % _FOLDS

    def both(rows: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
        shares = _fit(ahead[rows], np.arange(ahead.shape[1]))
        joint = _fit(of_pairs[rows].reshape(-1, 4), _PAIRS)
        mean = joint[3] + joint[1]
        return shares, np.array([joint[3], joint[3] / max(mean**2, 1e-9)])

    shares, pair = both(np.ones(len(chance), dtype=bool))
    folds = [both(fold != k) for k in range(_FOLDS)]
    errors, pair_errors = (
        np.sqrt((_FOLDS - 1) * np.var([each[k] for each in folds], axis=0)) for k in (0, 1)
    )
    return Copies(
        tuple(names), shares, errors, float(pair[0]), float(pair_errors[0]), float(pair[1]),
        float(pair_errors[1]),
    )  # fmt: skip


def _counts(chance: Array) -> Array:
    """Probability of 0, 1, … n copies where each is there with a chance of its own: (P, n + 1)."""
    out = np.zeros((len(chance), chance.shape[1] + 1))
    out[:, 0] = 1
    for copy in chance.T:
        out[:, 1:] = out[:, 1:] * (1 - copy[:, None]) + out[:, :-1] * copy[:, None]
        out[:, 0] *= 1 - copy
    return out


def _of_pair(one: Array, other: Array) -> Array:
    """Likelihood of neither, the first, the second and both: (P, 4)."""
    return np.stack([(1 - one) * (1 - other), one * (1 - other), (1 - one) * other, one * other], axis=1)


def _fit(likelihood: Array, kind: npt.NDArray[np.int64]) -> Array:
    """Fit shares of what may be (K,) to likelihoods (N, K); those of one kind have the same share."""
    shares = np.full(len(kind), 1 / len(kind))
    same = (kind[:, None] == kind) / np.bincount(kind)[kind]
    for _ in range(_STEPS):
        found = likelihood * shares
        shares = same @ (found / found.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares
