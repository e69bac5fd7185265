"""Small sets of classes with known composition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from occupy.ensemble.members import Member
from occupy.ensemble.pipeline import SetEstimate
from occupy.simulation import ClassSet, Processing, chain_values, demo_structure, simulate_classes
from occupy.volume import Volume

# G, U and V are neighbours of each other's neighbours only: parts that can be told apart at 10 Å.
PARTS = (
    {"G": 1.0, "A": 0.0, "D": 1.0},
    {"G": 0.0, "A": 1.0, "D": 0.6},
    {"G": 0.4, "A": 1.0, "D": 0.2},
    {"G": 0.7, "A": 0.5, "D": 1.0},
)
WEIGHTS = (0.35, 0.3, 0.2, 0.15)


def member_of(name: str, data: np.ndarray, voxel_size: float, weight=None, ssnr=None) -> Member:
    volume = Volume.from_array(np.array(data, dtype=np.float32), voxel_size, name)
    return Member(name, lambda: volume, weight, ssnr)


def members_of(made: ClassSet, *, known: bool = True) -> list[Member]:
    """Return the classes of a simulation; what a RELION job says of them only where `known`."""
    return [
        member_of(f"c{k}", one.map, one.voxel_size, w if known else None, one.ssnr if known else None)
        for k, (one, w) in enumerate(zip(made.classes, made.weights, strict=True))
    ]


def occupancy_maps(est: SetEstimate) -> list[np.ndarray]:
    return [est.on_grid(est.of_class(k).occupancy).data for k in range(len(est.names))]


def readings(est: SetEstimate, made: ClassSet) -> tuple[np.ndarray, np.ndarray]:
    """Return what chains read near their traces, and the truth: (chains, classes)."""
    one = made.classes[0]
    read = [chain_values(m, one.voxel_size, one.structure) for m in occupancy_maps(est)]
    names = list(read[0])
    return (
        np.array([[column[name] for column in read] for name in names]),
        np.array([made.occupancies[name] for name in names]),
    )


def simulated(
    parts: Sequence[dict[str, float]] = PARTS,
    *,
    weights: Sequence[float] | None = WEIGHTS,
    class3d: bool = True,
    snr: float = 20.0,
    seed: int = 1,
) -> ClassSet:
    processing = Processing(wiener=True, mask="sphere", tau2_fudge=2.0) if class3d else Processing()
    return simulate_classes(
        demo_structure(),
        parts,
        weights=weights,
        voxel_size=4.0,
        resolution=9.0,
        signal_to_noise=snr,
        noise_colour=0.0,
        processing=processing,
        seed=seed,
    )


@pytest.fixture(scope="session")
def regularised() -> ClassSet:
    """Four classes as a Class3D job writes them."""
    return simulated()


@pytest.fixture(scope="session")
def raw() -> ClassSet:
    """Four classes as reconstructed."""
    return simulated(class3d=False, weights=None)


@pytest.fixture(scope="session")
def alike() -> ClassSet:
    """Four classes that differ in noise only."""
    return simulated([{}] * 4, snr=10.0, seed=2)


@pytest.fixture(scope="session")
def tools() -> dict[str, Callable]:
    """What tests of this folder share (they can't import each other)."""
    return {
        "members_of": members_of,
        "member_of": member_of,
        "readings": readings,
        "simulated": simulated,
        "occupancy_maps": occupancy_maps,
    }
