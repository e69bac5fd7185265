"""`occupy simulate`: maps with known occupancy from a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from occupy.cli.arguments import Debug, Quiet
from occupy.cli.console import say
from occupy.errors import InputError

if TYPE_CHECKING:
    import gemmi

    from occupy.io.tables import ChainTable
    from occupy.simulation import Processing

_MAP, _TRUTH, _CLASSES, _PROCESSING = "Map", "Truth", "Class set", "Processing"


def _option(*flags: str, panel: str, text: str, shown: bool = True, **more: Any) -> Any:
    return typer.Option(*flags, help=text, rich_help_panel=panel, show_default=shown, **more)


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; the record holds it as it is."""

    models: list[Path]
    name: str | None = None
    voxel_size: float = 3.0
    box: int | None = None
    resolution: float = 6.0
    snr: float = 30.0
    noise_colour: float = 200.0
    half_maps: bool = True
    seed: int = 0
    occupancy: list[str] = field(default_factory=list)
    b_factor: list[str] = field(default_factory=list)
    chains: Path | None = None
    rim_b_factor: float = 0.0
    draw: bool = False
    full: float = 0.5
    blocks: int | None = None
    draw_b_factor: float = 0.0
    composition: Path | None = None
    classes: int | None = None
    weights: str | None = None
    class_noise: str | None = None
    mixing: float = 0.15
    partial_everywhere: bool = False
    sharpen: float = 0.0
    mask: str = "none"
    mask_radius: float | None = None
    mask_edge: float | None = None
    wiener: bool = False
    tau2_fudge: float = 1.0
    class3d: bool = False


ModelFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="MODEL...",
        help="Atomic model (.pdb, .cif, .gz), or several that make one complex; demo is the bundled one.",
    ),
]
Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")]
Stem = Annotated[
    str | None,
    _option("--name", panel=_MAP, text="Start of file names [default: the model's].", shown=False),
]
VoxelLength = Annotated[float, _option("--voxel-size", panel=_MAP, text="Å per voxel.")]
Box = Annotated[
    int | None,
    _option("--box", panel=_MAP, text="Side in voxels, even [default: 30 % solvent].", shown=False),
]
Resolution = Annotated[
    float, _option("--resolution", panel=_MAP, text="Å; no signal beyond, and B-factor 4 d².")
]
Snr = Annotated[
    float,
    _option("--snr", panel=_MAP, text="Variance of the signal at atoms over that of the noise; inf = none."),
]
NoiseColour = Annotated[
    float, _option("--noise-colour", panel=_MAP, text="B-factor of the noise (Å²); 0 = white.")
]
HalfMaps = Annotated[bool, _option("--half-maps/--no-half-maps", panel=_MAP, text="Write half-maps too.")]
Seed = Annotated[int, _option("--seed", panel=_MAP, text="Of the noise and of all that is drawn.")]
Occupancy = Annotated[
    list[str] | None,
    _option("--occupancy", panel=_TRUTH, text="CHAIN=OCCUPANCY, repeated or with commas.", shown=False),
]
BFactor = Annotated[
    list[str] | None,
    _option("--b-factor", panel=_TRUTH, text="CHAIN=B, extra B-factor in Å², likewise.", shown=False),
]
ChainFile = Annotated[
    Path | None,
    _option("--chains", panel=_TRUTH, text="CSV file: chain,occupancy,b_factor,block.", shown=False),
]
RimBFactor = Annotated[
    float,
    _option("--rim-b-factor", panel=_TRUTH, text="Å² more at the rim, growing with squared distance."),
]
Draw = Annotated[bool, _option("--draw", panel=_TRUTH, text="Draw occupancies.", shown=False)]
FullShare = Annotated[
    float,
    _option("--full", panel=_TRUTH, text="Drawn: share of full chains (with blocks or classes: the core)."),
]
Blocks = Annotated[
    int | None,
    _option("--blocks", panel=_TRUTH, text="Drawn: for so many blocks of neighbours.", shown=False),
]
DrawBFactor = Annotated[
    float,
    _option("--draw-b-factor", panel=_TRUTH, text="Draw B-factors up to this for 30 % of the chains."),
]
Composition = Annotated[
    Path | None,
    _option(
        "--composition",
        panel=_CLASSES,
        text="CSV file: a row per chain, a column per class.",
        shown=False,
    ),
]
ClassCount = Annotated[
    int | None, _option("--classes", panel=_CLASSES, text="Draw so many classes.", shown=False)
]
Weights = Annotated[
    str | None,
    _option("--weights", panel=_CLASSES, text="Particles per class: 0.5,0.3,0.2", shown=False),
]
ClassNoise = Annotated[
    str | None,
    _option("--class-noise", panel=_CLASSES, text="Factors on the noise of each class.", shown=False),
]
Mixing = Annotated[
    float, _option("--mixing", panel=_CLASSES, text="Drawn: share of a class from other states.")
]
PartialEverywhere = Annotated[
    bool,
    _option(
        "--partial-everywhere", panel=_CLASSES, text="Drawn: one block is full in no class.", shown=False
    ),
]
Sharpen = Annotated[float, _option("--sharpen", panel=_PROCESSING, text="Take off this B-factor (Å²).")]
MaskShape = Annotated[
    str, _option("--mask", panel=_PROCESSING, text="Zero outside: none, sphere, or soft (around atoms).")
]
MaskRadius = Annotated[
    float | None,
    _option(
        "--mask-radius", panel=_PROCESSING, text="Å [default: model + 10, or 6 from atoms].", shown=False
    ),
]
MaskEdge = Annotated[
    float | None,
    _option("--mask-edge", panel=_PROCESSING, text="Å of soft edge [default: 5 voxels].", shown=False),
]
Wiener = Annotated[
    bool,
    _option("--wiener", panel=_PROCESSING, text="Shrink shells by SSNR/(1 + SSNR).", shown=False),
]
Tau2Fudge = Annotated[float, _option("--tau2-fudge", panel=_PROCESSING, text="RELION's T.")]
Class3d = Annotated[
    bool,
    _option(
        "--class3d",
        panel=_PROCESSING,
        text="As Class3D writes maps: --wiener --mask sphere.",
        shown=False,
    ),
]


def simulate(
    models: ModelFiles,
    output: Folder = Path("occupy-simulated"),
    name: Stem = None,
    voxel_size: VoxelLength = 3.0,
    box: Box = None,
    resolution: Resolution = 6.0,
    snr: Snr = 30.0,
    noise_colour: NoiseColour = 200.0,
    half_maps: HalfMaps = True,
    seed: Seed = 0,
    occupancy: Occupancy = None,
    b_factor: BFactor = None,
    chains: ChainFile = None,
    rim_b_factor: RimBFactor = 0.0,
    draw: Draw = False,
    full: FullShare = 0.5,
    blocks: Blocks = None,
    draw_b_factor: DrawBFactor = 0.0,
    composition: Composition = None,
    classes: ClassCount = None,
    weights: Weights = None,
    class_noise: ClassNoise = None,
    mixing: Mixing = 0.15,
    partial_everywhere: PartialEverywhere = False,
    sharpen: Sharpen = 0.0,
    mask: MaskShape = "none",
    mask_radius: MaskRadius = None,
    mask_edge: MaskEdge = None,
    wiener: Wiener = False,
    tau2_fudge: Tau2Fudge = 1.0,
    class3d: Class3d = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make maps with known occupancies, and their truth, from an atomic model."""
    given = {key: value for key, value in locals().items() if key in Asked.__dataclass_fields__}
    given |= {"occupancy": occupancy or [], "b_factor": b_factor or []}
    run_simulation(Asked(**given), output, quiet)


def run_simulation(asked: Asked, output: Path, quiet: bool) -> None:
    """Simulate what was asked for, write it, and say what was written."""
    _check(asked)
    structure, stem = _read(asked.models)
    table = _table(asked.chains)
    try:
        if asked.classes is not None or asked.composition is not None:
            if table is not None and "occupancy" in table.columns:
                raise InputError(f"{asked.chains}: occupancies of classes go into a --composition")
            files = _class_set(asked, structure, table, output)
        else:
            files = _one_map(asked, structure, table, asked.name or stem, output)
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from error
    for name in files.values():
        say(str(output / name), quiet)


def _check(asked: Asked) -> None:
    """Raise InputError for options that exclude each other."""
    made = [asked.occupancy, asked.chains, asked.draw, asked.composition, asked.classes]
    named = ["--occupancy", "--chains", "--draw", "--composition", "--classes"]
    sources = [name for name, value in zip(named, made, strict=True) if value]
    # A table may give B-factors and blocks to drawn occupancies, and single occupancies may correct both.
    if "--composition" in sources and len(set(sources) - {"--chains"}) > 1:
        raise InputError(f"{' and '.join(sources)}: the composition of classes is given already")
    if "--classes" in sources and {"--occupancy", "--draw"} & set(sources):
        raise InputError(
            f"{' and '.join(sources)}: classes are drawn as a whole; give a --composition instead"
        )
    if asked.classes is None and asked.composition is None:
        only_classes = {"--weights": asked.weights, "--class-noise": asked.class_noise}
        idle = [name for name, value in only_classes.items() if value is not None]
        if idle or asked.partial_everywhere:
            flag = idle[0] if idle else "--partial-everywhere"
            raise InputError(f"{flag} is about classes: give --classes or a --composition too")
        if asked.blocks is not None and not asked.draw:
            raise InputError("--blocks is about what is drawn: give --draw or --classes too")
    if asked.seed < 0:
        raise InputError(f"--seed must not be negative, not {asked.seed}")


def _read(models: Sequence[Path]) -> tuple[gemmi.Structure, str]:
    """Return the complex and the name of its first file."""
    from occupy.io.models import join_models
    from occupy.simulation import demo_structure

    if len(models) == 1 and str(models[0]) == "demo" and not models[0].exists():
        return demo_structure(), "demo"
    return join_models(models), models[0].name.split(".")[0]


def _table(path: Path | None) -> ChainTable | None:
    from occupy.io.tables import read_chain_table

    if path is None:
        return None
    table = read_chain_table(path)
    unknown = set(table.columns) - {"occupancy", "b_factor"}
    if unknown:
        raise InputError(
            f"{path}: unknown column {sorted(unknown)[0]!r}; known are chain, occupancy, b_factor, block"
        )
    return table


def pairs(texts: Sequence[str], flag: str) -> dict[str, float]:
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


def numbers(text: str | None, flag: str) -> list[float] | None:
    """Read ``0.5,0.3,0.2``."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"{flag} takes numbers with commas between, such as 0.5,0.5, not {text!r}"
        ) from error


def _b_factors(asked: Asked, structure: gemmi.Structure, table: ChainTable | None) -> dict[str, float]:
    """Return the B-factors drawn, from the table, and given singly; later ones count."""
    from occupy.simulation import draw_b_factors

    drawn = (
        draw_b_factors(structure, highest=asked.draw_b_factor, seed=asked.seed) if asked.draw_b_factor else {}
    )
    tabled = table.columns.get("b_factor", {}) if table else {}
    return drawn | tabled | pairs(asked.b_factor, "--b-factor")


def _occupancies(
    asked: Asked, structure: gemmi.Structure, table: ChainTable | None
) -> tuple[dict[str, float], Mapping[str, str]]:
    """Return occupancies and blocks: drawn, from the table, and given singly; later ones count."""
    from occupy.simulation import draw_occupancies, neighbour_blocks

    drawn: dict[str, float] = {}
    blocks: Mapping[str, str] = table.blocks if table else {}
    if asked.draw:
        drawn = draw_occupancies(structure, full=asked.full, blocks=asked.blocks, seed=asked.seed)
        if asked.blocks:
            blocks = neighbour_blocks(structure, asked.blocks, core=min(asked.full, 0.99), seed=asked.seed)
    tabled = table.columns.get("occupancy", {}) if table else {}
    return drawn | tabled | pairs(asked.occupancy, "--occupancy"), blocks


def _processing(asked: Asked) -> Processing:
    from occupy.simulation import Processing

    return Processing(
        sharpening=asked.sharpen,
        mask="sphere" if asked.class3d and asked.mask == "none" else asked.mask,  # type: ignore[arg-type]
        mask_radius=asked.mask_radius,
        mask_edge=asked.mask_edge,
        wiener=asked.wiener or asked.class3d,
        tau2_fudge=asked.tau2_fudge,
    )


def _common(asked: Asked, structure: gemmi.Structure, table: ChainTable | None) -> dict[str, Any]:
    """Return the arguments that one map and a set share."""
    return {
        "voxel_size": asked.voxel_size,
        "box": asked.box,
        "resolution": asked.resolution,
        "b_factors": _b_factors(asked, structure, table),
        "rim_b_factor": asked.rim_b_factor,
        "signal_to_noise": asked.snr,
        "noise_colour": asked.noise_colour,
        "half_maps": asked.half_maps,
        "processing": _processing(asked),
        "seed": asked.seed,
    }


def _one_map(
    asked: Asked, structure: gemmi.Structure, table: ChainTable | None, name: str, output: Path
) -> dict[str, str]:
    from occupy.report.simulated import plain, write_simulation
    from occupy.simulation import simulate as simulate_map

    occupancies, blocks = _occupancies(asked, structure, table)
    made = simulate_map(structure, occupancies=occupancies, **_common(asked, structure, table))
    return write_simulation(output, name, made, plain(asked), blocks)


def _class_set(
    asked: Asked, structure: gemmi.Structure, table: ChainTable | None, output: Path
) -> dict[str, str]:
    from dataclasses import asdict

    from occupy.report.simulated import plain, write_class_set
    from occupy.simulation import draw_classes, simulate_classes

    weights = numbers(asked.weights, "--weights")
    further: dict[str, Any] = {}
    if asked.composition is not None:
        occupancies, blocks = _composition(asked.composition)
    else:
        drawn = draw_classes(
            structure,
            asked.classes or 0,
            blocks=asked.blocks or 4,
            core=min(asked.full, 0.99),
            mixing=asked.mixing,
            partial_everywhere=asked.partial_everywhere,
            seed=asked.seed,
        )
        occupancies, blocks = list(drawn.occupancies), drawn.blocks
        weights = weights or list(drawn.weights)
        further = {key: asdict(drawn)[key] for key in ("states", "mixing")}
    made = simulate_classes(
        structure,
        occupancies,
        weights=weights,
        class_noise=numbers(asked.class_noise, "--class-noise"),
        **_common(asked, structure, table),
    )
    return write_class_set(output, made, plain(asked), blocks, further)


def _composition(path: Path) -> tuple[list[dict[str, float]], dict[str, str]]:
    """Return occupancies per class and blocks from a table."""
    from occupy.io.tables import read_chain_table

    table = read_chain_table(path)
    if not table.columns:
        raise InputError(f"{path}: no column of a class beside the chains")
    return list(table.columns.values()), table.blocks
