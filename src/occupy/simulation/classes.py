"""Sets of class maps with known composition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from occupy.options import short_repr
from occupy.requests import Imaging, Processing
from occupy.simulation.models import Scene, per_chain
from occupy.simulation.single import Array, Noise, Simulation, finish, last_shell, raw_maps, spectrum_of

if TYPE_CHECKING:
    import gemmi


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
