"""What may be asked of a simulation: numbers and names that make sense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gemmi


def check_structure(structure: gemmi.Structure) -> None:
    """Raise TypeError or ValueError unless this is a structure with atoms."""
    import gemmi

    if not isinstance(structure, gemmi.Structure):
        raise TypeError(f"structure must be a gemmi.Structure, not {type(structure).__name__}")
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise ValueError(f"structure {structure.name!r} has no atoms")


def check_positive(**numbers: float) -> None:
    """Raise ValueError unless every number is finite and above 0."""
    for name, number in numbers.items():
        if not (isfinite(number) and number > 0):
            raise ValueError(f"{name} must be a positive number, not {number!r}")


def check_not_negative(**numbers: float) -> None:
    """Raise ValueError unless every number is finite and not below 0."""
    for name, number in numbers.items():
        if not (isfinite(number) and number >= 0):
            raise ValueError(f"{name} must be 0 or more, not {number!r}")


def check_numbers(voxel_size: float, resolution: float, signal_to_noise: float, noise_colour: float) -> None:
    """Raise ValueError for numbers no map can have."""
    check_positive(voxel_size=voxel_size, resolution=resolution)
    # The voxel size may come from a float32 header, where two voxels are not exactly the resolution written
    # down.
    if resolution < 2 * voxel_size * (1 - 1e-6):
        raise ValueError(f"resolution {resolution!r} Å is beyond two voxels of {voxel_size!r} Å")
    if not signal_to_noise > 0:
        raise ValueError(f"signal_to_noise must be positive, not {signal_to_noise!r}")
    if not (isfinite(noise_colour) and noise_colour >= 0):
        raise ValueError(f"noise_colour must be a B-factor of 0 Å² or more, not {noise_colour!r}")


def chain_names(structure: gemmi.Structure) -> list[str]:
    """Return the first model's chain names, each once, in their order."""
    return list(dict.fromkeys(chain.name for chain in structure[0]))


def per_chain(
    what: str, given: Mapping[str, float] | None, chains: Iterable[str], *, default: float, highest: float
) -> dict[str, float]:
    """Return a finite number in [0, `highest`] for every chain, or raise ValueError."""
    numbers = dict.fromkeys(chains, default)
    for name, number in (given or {}).items():
        if name not in numbers:
            raise ValueError(f"{what} names chain {name!r}; the structure has {', '.join(numbers)}")
        if not (isfinite(number) and 0 <= number <= highest):
            raise ValueError(f"{what} of chain {name!r} must be within 0 and {highest:g}, not {number!r}")
        numbers[name] = float(number)
    return numbers
