"""Maps with known occupancy, made from an atomic model: for the demo, for tests and for benchmarks.

The way of the data: model → placed in a box → electrostatic potential of its atoms minus that of the ice
they displace → band-limited at a resolution → plus noise → processing, where asked for. Every step before
the noise is linear in the occupancies, so the truth is exact.
"""

from __future__ import annotations

from occupy.requests import Processing
from occupy.simulation.classes import (
    ClassSet,
    Composition,
    draw_b_factors,
    draw_classes,
    draw_occupancies,
    neighbour_blocks,
    simulate_classes,
)
from occupy.simulation.models import chain_values, demo_occupancies, demo_structure
from occupy.simulation.single import Simulation, simulate

__all__ = [
    "ClassSet",
    "Composition",
    "Processing",
    "Simulation",
    "chain_values",
    "demo_occupancies",
    "demo_structure",
    "draw_b_factors",
    "draw_classes",
    "draw_occupancies",
    "neighbour_blocks",
    "simulate",
    "simulate_classes",
]
