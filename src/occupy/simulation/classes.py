"""Sets of class maps with known composition: blocks of neighbouring chains, and classes that mix states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from occupy.requests import Imaging, Processing
from occupy.settings import short_repr
from occupy.simulation.models import Scene, chain_names, check_structure, marker_points, per_chain
from occupy.simulation.single import Array, Noise, Simulation, finish, last_shell, raw_maps, spectrum_of

if TYPE_CHECKING:
    import gemmi


_CORE = "core"


def _centres(structure: gemmi.Structure) -> tuple[list[str], NDArray[np.float64], NDArray[np.int64]]:
    """Return names, middles (n, 3; Å) and numbers of atoms of the chains."""
    points: dict[str, list[list[float]]] = {}
    for site in structure[0].all():
        points.setdefault(site.chain.name, []).append(site.atom.pos.tolist())
    names = [name for name in chain_names(structure) if name in points]
    centres = np.array([np.mean(points[name], axis=0) for name in names])
    return names, centres, np.array([len(points[name]) for name in names])


def _hosts(structure: gemmi.Structure) -> dict[str, str]:
    """Return each chain's host: itself, or if it has no CA or P atom (a glycan), the nearest with one."""
    from scipy.spatial import cKDTree

    markers = marker_points(structure)
    names, centres, _ = _centres(structure)
    if not markers:
        return {name: name for name in names}
    owners = [name for name, points in markers.items() for _ in points]
    nearest = cKDTree(np.concatenate(list(markers.values()))).query(centres)[1]
    return {name: name if name in markers else owners[int(i)] for name, i in zip(names, nearest, strict=True)}


def neighbour_blocks(
    structure: gemmi.Structure, blocks: int, *, core: float = 0.4, seed: int = 0
) -> dict[str, str]:
    """Divide a complex into a core and blocks of neighbouring chains that come and go together.

    Parameters
    ----------
    structure : gemmi.Structure
        Any structure.
    blocks : int
        Number of blocks besides the core; fewer where there are not as many chains.
    core : float
        Share of the atoms, in [0, 1): the chains nearest to the middle, at least one.
    seed : int
        Of the choice of the blocks' first chains; the others join the nearest of these.

    Returns
    -------
    dict of str to str
        Chain → ``"core"``, ``"B1"``, ``"B2"``, …
    """
    check_structure(structure)
    if blocks < 1:
        raise ValueError(f"blocks must be at least 1, not {blocks!r}")
    if not 0 <= core < 1:
        raise ValueError(f"core must be a share in [0, 1), not {core!r}")
    names, centres, atoms = _centres(structure)
    middle = np.average(centres, axis=0, weights=atoms)
    inside_out = np.argsort(np.linalg.norm(centres - middle, axis=1), kind="stable")
    before = np.cumsum(atoms[inside_out]) - atoms[inside_out]
    outer = inside_out[max(1, int(np.sum(before < core * atoms.sum()))) :]
    label = np.zeros(len(names), dtype=int)
    if outer.size:
        firsts = _spread(centres[outer], blocks, np.random.default_rng(seed))
        distance = np.linalg.norm(centres[outer][:, None] - centres[outer][firsts], axis=2)
        label[outer] = 1 + distance.argmin(axis=1)
    block = {name: f"B{k}" if k else _CORE for name, k in zip(names, label, strict=True)}
    return {name: block[host] for name, host in _hosts(structure).items()}


def _spread(points: NDArray[np.float64], count: int, rng: np.random.Generator) -> list[int]:
    """Choose points far from each other, the first at random."""
    chosen = [int(rng.integers(len(points)))]
    while len(chosen) < min(count, len(points)):
        nearest = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1)
        chosen.append(int(nearest.argmax()))
    return chosen


def draw_occupancies(
    structure: gemmi.Structure, *, full: float = 0.5, blocks: int | None = None, seed: int = 0
) -> dict[str, float]:
    """Draw an occupancy for every chain, or for blocks of neighbouring ones.

    Parameters
    ----------
    structure : gemmi.Structure
        Any structure.
    full : float
        Share of the chains, in [0, 1], that are fully present (to the nearest number, at least one). With
        blocks: of the atoms, in the core.
    blocks : int, optional
        Draw for so many blocks (see `neighbour_blocks`) instead of chain by chain.
    seed : int
        The same seed draws the same.

    Returns
    -------
    dict of str to float
        Of the partial ones 15 % are absent and the others uniform in 0.05 to 0.95, in hundredths. Chains
        without CA and P atoms go with their nearest neighbour.
    """
    check_structure(structure)
    if not 0 <= full <= 1:
        raise ValueError(f"full must be a share in [0, 1], not {full!r}")
    rng = np.random.default_rng((seed, 11))
    if blocks is not None:
        block_of = neighbour_blocks(structure, blocks, core=min(full, 0.99), seed=seed)
        drawn = {block: _partial(rng) for block in sorted(set(block_of.values()))} | {_CORE: 1.0}
        return {name: drawn[block] for name, block in block_of.items()}
    hosts = _hosts(structure)
    names = list(dict.fromkeys(hosts.values()))
    present = set(rng.permutation(names)[: max(1, round(full * len(names)))].tolist())
    drawn = {name: 1.0 if name in present else _partial(rng) for name in names}
    return {name: drawn[host] for name, host in hosts.items()}


def _partial(rng: np.random.Generator) -> float:
    # 15 % of what is drawn partial is absent altogether.
    absent, value = rng.random() < 0.15, rng.uniform(0.05, 0.95)
    return 0.0 if absent else round(float(value), 2)


def draw_b_factors(
    structure: gemmi.Structure, *, highest: float = 150.0, share: float = 0.3, seed: int = 0
) -> dict[str, float]:
    """Draw extra B-factors (Å²): uniform up to `highest` for a share of the chains, 0 for the others."""
    check_structure(structure)
    if not (np.isfinite(highest) and highest >= 0):
        raise ValueError(f"highest must be a B-factor of 0 Å² or more, not {highest!r}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be within [0, 1], not {share!r}")
    rng = np.random.default_rng((seed, 12))
    names = _centres(structure)[0]
    return {name: round(float(rng.uniform(0, highest)), 1) if rng.random() < share else 0.0 for name in names}


@dataclass(frozen=True)
class Composition:
    """What the classes of a set hold.

    Attributes
    ----------
    occupancies : tuple of dict of str to float
        Per class, chain → occupancy: what `simulate_classes` takes.
    weights : tuple of float
        Share of the particles per class.
    blocks : dict of str to str
        Chain → block.
    states : tuple of dict of str to float
        Per state, block → presence.
    mixing : tuple of tuple of float
        Per class, share of its particles in each state.
    """

    occupancies: tuple[dict[str, float], ...]
    weights: tuple[float, ...]
    blocks: dict[str, str]
    states: tuple[dict[str, float], ...]
    mixing: tuple[tuple[float, ...], ...]


def draw_classes(
    structure: gemmi.Structure,
    classes: int = 4,
    *,
    blocks: int = 4,
    core: float = 0.4,
    mixing: float = 0.15,
    partial_everywhere: bool = False,
    seed: int = 0,
) -> Composition:
    """Draw the composition of classes: states of assembly, imperfectly separated.

    Parameters
    ----------
    structure : gemmi.Structure
        Any structure.
    classes : int
        Number of classes, and of states.
    blocks, core
        See `neighbour_blocks`. The first state has all blocks; each block is absent in at least one
        other, where there are enough states.
    mixing : float
        Mean share of a class's particles, in [0, 1], that belong to other states.
    partial_everywhere : bool
        The last block is partial (0.3 to 0.7) in every state: relative to the other classes it looks full.
    seed : int
        The same seed draws the same.

    Returns
    -------
    Composition
    """
    check_structure(structure)
    if classes < 1:
        raise ValueError(f"classes must be at least 1, not {classes!r}")
    if not 0 <= mixing <= 1:
        raise ValueError(f"mixing must be a share in [0, 1], not {mixing!r}")
    rng = np.random.default_rng((seed, 13))
    block_of = neighbour_blocks(structure, blocks, core=core, seed=seed)
    names = sorted(set(block_of.values()) - {_CORE}, key=lambda name: int(name[1:]))
    presence = _states(len(names), classes, rng)
    if partial_everywhere and names:
        presence[:, -1] = rng.uniform(0.3, 0.7, classes)
    strangers = np.clip(mixing * rng.uniform(0.5, 1.5, (classes, 1)), 0, 1)
    mixture = (1 - strangers) * np.eye(classes) + strangers * rng.dirichlet(np.ones(classes), classes)
    held = np.clip(mixture @ presence, 0, 1)
    # No class has less than a twentieth of the particles.
    weights = 0.05 + rng.dirichlet(np.full(classes, 4.0)) * (1 - 0.05 * classes)
    weights = np.maximum(weights, 1e-3) / np.maximum(weights, 1e-3).sum()
    states = tuple({_CORE: 1.0} | dict(zip(names, map(float, row), strict=True)) for row in presence)
    occupancies = tuple(_per_chain_of(block_of, names, row) for row in held)
    return Composition(
        occupancies,
        tuple(map(float, weights)),
        block_of,
        states,
        tuple(tuple(map(float, row)) for row in mixture),
    )


def _per_chain_of(block_of: dict[str, str], names: list[str], row: NDArray[np.float64]) -> dict[str, float]:
    """Return the occupancy of every chain from those of the blocks, to four decimals."""
    value = {_CORE: 1.0} | {name: round(float(x), 4) for name, x in zip(names, row, strict=True)}
    return {chain: value[block] for chain, block in block_of.items()}


def _states(blocks: int, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw which blocks each state has: (count, blocks), 0 or 1, no two alike, the first complete."""
    if count > 2**blocks:
        raise ValueError(f"{blocks} blocks make only {2**blocks} states: too few for {count} classes")
    most_absent = np.zeros((count, blocks), dtype=int)
    # After a hundred draws some block is left present in all.
    for _ in range(100):
        codes = np.concatenate([[0], 1 + rng.permutation(2**blocks - 1)[: count - 1]])
        missing = (codes[:, None] >> np.arange(blocks)) & 1
        if missing.any(axis=0).sum() > most_absent.any(axis=0).sum():
            most_absent = missing
        # A block that is always there would be core.
        if missing.any(axis=0).all():
            break
    return np.asarray(1 - most_absent, dtype=np.float64)


@dataclass(frozen=True)
class ClassSet:
    """The maps of a classification and the truth they were made from.

    Attributes
    ----------
    classes : tuple of Simulation
        One per class; all have the same frame.
    weights : tuple of float
        Share of the particles in each class; the sum is 1.
    consensus : Simulation
        All particles together: the weighted mean of the classes before processing. Its occupancies are the
        weighted means of theirs.
    processing : Processing
        What was done to the class maps.
    """

    classes: tuple[Simulation, ...]
    weights: tuple[float, ...]
    consensus: Simulation
    processing: Processing

    __repr__ = short_repr

    @property
    def occupancies(self) -> dict[str, tuple[float, ...]]:
        """True occupancy of every chain in each class."""
        names = self.consensus.occupancies
        return {name: tuple(one.occupancies[name] for one in self.classes) for name in names}


def simulate_classes(
    structure: gemmi.Structure,
    occupancies: Sequence[Mapping[str, float]],
    *,
    weights: Sequence[float] | None = None,
    class_noise: Sequence[float] | None = None,
    b_factors: Mapping[str, float] | None = None,
    processing: Processing | None = None,
    **imaging: Any,
) -> ClassSet:
    """Simulate the maps of a classification.

    Parameters
    ----------
    structure : gemmi.Structure
        As for `simulate`.
    occupancies : sequence of mapping of str to float
        One mapping per class: occupancy per chain within [0, 1], 1 for chains not named. A class that mixes
        states has the mean of their compositions (see `draw_classes`).
    weights : sequence of float, optional
        Particles per class in any unit; equal by default.
    class_noise : sequence of float, optional
        Factor on the standard deviation of each class's noise, on top of what its size makes of it.
    b_factors : mapping of str to float, optional
        As for `simulate`; the same for every class.
    processing : Processing, optional
        Done to every class map. With Wiener shrinkage each class has its own SSNR, and all are cut off where
        the best one falls below 1, as in RELION, which has one current resolution.
        ``Processing(wiener=True, mask="sphere")`` makes maps as a Class3D job writes them.
    voxel_size, box, resolution, rim_b_factor, noise_colour, half_maps, seed
        As for `simulate`; the same for every class.
    signal_to_noise : float, default 30
        As for `simulate`, and of *all particles together*: the noise of class k has 1/weight of its variance.

    Returns
    -------
    ClassSet

    Raises
    ------
    TypeError, ValueError
        As for `simulate`, or where the lists differ in length or a weight is not positive.
    """
    asked = Imaging(**imaging)
    shares = _shares(weights, len(occupancies), "weights")
    factors = _positive(class_noise, len(occupancies), "class_noise")
    scene = Scene.of(structure, asked, b_factors)
    columns = [
        per_chain(f"occupancies of class {k}", given, scene.chains, default=1.0, highest=1.0)
        for k, given in enumerate(occupancies, start=1)
    ]
    full = scene.clean_map(dict.fromkeys(scene.chains, 1.0))
    sigma = scene.noise_sigma(full, asked.signal_to_noise)
    seed = asked.seed
    noises = [
        Noise(
            np.float32(sigma * factor / share**0.5),
            asked.noise_colour,
            (seed, 2, k),
            (seed, 3, k) if asked.half_maps else None,
        )
        for k, (share, factor) in enumerate(zip(shares, factors, strict=True))
    ]
    return _classes(scene, columns, shares, noises, processing or Processing())


def _positive(given: Sequence[float] | None, count: int, what: str) -> NDArray[np.float64]:
    """Return one positive number per class; ones where nothing is given."""
    if count < 1:
        raise ValueError("occupancies must be given for at least one class")
    values = np.ones(count) if given is None else np.asarray(given, dtype=np.float64)
    if values.shape != (count,):
        raise ValueError(f"{what} must be {count} numbers, one per class, not {given!r}")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError(f"{what} must be positive, not {given!r}")
    return values


def _shares(given: Sequence[float] | None, count: int, what: str) -> NDArray[np.float64]:
    """Return one share per class; they sum to 1."""
    values = _positive(given, count, what)
    return np.asarray(values / values.sum())


def _classes(
    scene: Scene,
    columns: Sequence[dict[str, float]],
    shares: NDArray[np.float64],
    noises: Sequence[Noise],
    processing: Processing,
) -> ClassSet:
    """Make the maps of all classes and their weighted mean."""
    cleans = scene.clean_maps(columns)
    raws = [raw_maps(scene, clean, noise) for clean, noise in zip(cleans, noises, strict=True)]
    current = None
    if processing.wiener:
        spectra = (spectrum_of(scene, c, n, processing) for c, n in zip(cleans, noises, strict=True))
        current = max(last_shell(spectrum) for spectrum in spectra)
    classes = tuple(
        finish(scene, column, clean, noise, processing, current=current, raw=raw)
        for column, clean, noise, raw in zip(columns, cleans, noises, raws, strict=True)
    )
    mean = {
        name: float(sum(s * c[name] for s, c in zip(shares, columns, strict=True))) for name in columns[0]
    }
    # Shares that sum to 1 only up to rounding must not make a full chain more than full.
    mean = {name: min(1.0, round(value, 12)) for name, value in mean.items()}
    together = [_weighted(shares, maps) for maps in zip(*raws, strict=True)]
    consensus = finish(scene, mean, _weighted(shares, cleans), noises[0], Processing(), raw=together)
    return ClassSet(classes, tuple(float(share) for share in shares), consensus, processing)


def _weighted(shares: NDArray[np.float64], maps: Sequence[Array]) -> Array:
    """Return the weighted sum of maps."""
    out = np.zeros_like(maps[0])
    for share, data in zip(shares, maps, strict=True):
        out += np.float32(share) * data
    return out
