"""From what a user asks for, in words and tables, to simulated maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.errors import InputError
from occupy.io.models import join_models
from occupy.io.tables import ChainTable
from occupy.requests import SimulationRequest
from occupy.simulation.classes import (
    ClassSet,
    draw_b_factors,
    draw_classes,
    draw_occupancies,
    neighbour_blocks,
    simulate_classes,
)
from occupy.simulation.models import demo_structure
from occupy.simulation.single import Simulation, simulate

if TYPE_CHECKING:
    import gemmi


@dataclass(frozen=True, eq=False)
class Simulated:
    """What was made.

    Attributes
    ----------
    made : Simulation or ClassSet
        Maps and truth.
    name : str
        What file names of one map begin with.
    blocks : mapping of str to str
        Chain → block.
    further : mapping
        What else a record says of a drawn set: its states, and how classes mix them.
    """

    made: Simulation | ClassSet
    name: str
    blocks: Mapping[str, str]
    further: Mapping[str, Any] = field(default_factory=dict)


def simulate_request(asked: SimulationRequest) -> Simulated:
    """Simulate what was asked for; InputError where that is not possible."""
    structure, stem = _read(asked.models)
    table = _chain_table(asked.truth.chains)
    try:
        if not asked.is_set:
            return _one_map(asked, structure, table, asked.name or stem)
        if table is not None and "occupancy" in table.columns:
            raise InputError(f"{asked.truth.chains}: occupancies of classes go into a --composition")
        return _class_set(asked, structure, table, stem)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from error


def _read(models: Sequence[Path]) -> tuple[gemmi.Structure, str]:
    """Return the complex and the name of its first file."""
    if len(models) == 1 and str(models[0]) == "demo" and not models[0].exists():
        return demo_structure(), "demo"
    return join_models(models), models[0].name.split(".")[0]


def _chain_table(path: Path | None) -> ChainTable | None:
    if path is None:
        return None
    table = ChainTable.read(path)
    unknown = set(table.columns) - {"occupancy", "b_factor"}
    if unknown:
        raise InputError(
            f"{path}: unknown column {sorted(unknown)[0]!r}; known are chain, occupancy, b_factor, block"
        )
    return table


def _pairs(texts: Sequence[str], flag: str) -> dict[str, float]:
    """Read ``A=0.5`` and ``A=0.5,B=0.3``."""
    found: dict[str, float] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        chain, equals, number = part.rpartition("=")
        try:
            found[chain.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals or not chain.strip():
            raise InputError(f"{flag} takes CHAIN=NUMBER, such as A=0.5, not {part!r}")
    return found


def _numbers(text: str | None, flag: str) -> list[float] | None:
    """Read ``0.5,0.3,0.2``."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"{flag} takes numbers with commas between, such as 0.5,0.5, not {text!r}"
        ) from error


def _common(asked: SimulationRequest, structure: gemmi.Structure, table: ChainTable | None) -> dict[str, Any]:
    """Return the arguments that one map and a set share.

    B-factors are those drawn, those of the table, and those given singly; later ones count.
    """
    truth, seed = asked.truth, asked.imaging.seed
    drawn = draw_b_factors(structure, highest=truth.draw_b_factor, seed=seed) if truth.draw_b_factor else {}
    tabled = table.columns.get("b_factor", {}) if table else {}
    b_factors = drawn | tabled | _pairs(truth.b_factor, "--b-factor")
    return asdict(asked.imaging) | {"b_factors": b_factors, "processing": asked.processed}


def _one_map(
    asked: SimulationRequest, structure: gemmi.Structure, table: ChainTable | None, name: str
) -> Simulated:
    """Simulate a map whose occupancies are drawn, of the table, or given singly; later ones count."""
    truth, seed = asked.truth, asked.imaging.seed
    drawn: dict[str, float] = {}
    blocks: Mapping[str, str] = table.blocks if table else {}
    if truth.draw:
        drawn = draw_occupancies(structure, full=truth.full, blocks=truth.blocks, seed=seed)
        if truth.blocks:
            blocks = neighbour_blocks(structure, truth.blocks, core=_core(asked), seed=seed)
    tabled = table.columns.get("occupancy", {}) if table else {}
    occupancies = drawn | tabled | _pairs(truth.occupancy, "--occupancy")
    made = simulate(structure, occupancies=occupancies, **_common(asked, structure, table))
    return Simulated(made, name, blocks)


def _core(asked: SimulationRequest) -> float:
    """Share of the atoms in the core of a drawn composition; something must be left to draw."""
    return min(asked.truth.full, 0.99)


def _class_set(
    asked: SimulationRequest, structure: gemmi.Structure, table: ChainTable | None, name: str
) -> Simulated:
    """Simulate classes whose composition is drawn, or of a table."""
    mixture = asked.mixture
    weights = _numbers(mixture.weights, "--weights")
    further: dict[str, Any] = {}
    occupancies: Sequence[Mapping[str, float]]
    if mixture.composition is not None:
        composition = ChainTable.read(mixture.composition)
        if not composition.columns:
            raise InputError(f"{mixture.composition}: no column of a class beside the chains")
        occupancies, blocks = list(composition.columns.values()), composition.blocks
    else:
        drawn = draw_classes(
            structure,
            mixture.classes or 0,
            blocks=asked.truth.blocks or 4,
            core=_core(asked),
            mixing=mixture.mixing,
            partial_everywhere=mixture.partial_everywhere,
            seed=asked.imaging.seed,
        )
        occupancies, blocks = drawn.occupancies, drawn.blocks
        weights = weights or list(drawn.weights)
        further = {"states": list(drawn.states), "mixing": [list(row) for row in drawn.mixing]}
    made = simulate_classes(
        structure,
        occupancies,
        weights=weights,
        class_noise=_numbers(mixture.class_noise, "--class-noise"),
        **_common(asked, structure, table),
    )
    return Simulated(made, name, blocks, further)
