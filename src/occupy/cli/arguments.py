"""Options that several commands have in common, and those of `occupy classes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Folder for the results.", show_default=False)
]
PageOption = Annotated[
    bool,
    typer.Option(
        "--report", help="Write a page with everything, for any browser, offline.", show_default=False
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.", show_default=False)]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error came from.", show_default=False)]
VoxelSize = Annotated[
    float | None,
    typer.Option("--voxel-size", help="Å per voxel, in place of the header's.", show_default=False),
]
# --find-half-maps and --no-half-maps are what 0.1.0 called it.
Neighbours = Annotated[
    bool,
    typer.Option(
        "--neighbours/--no-neighbours",
        "--find-half-maps/--no-half-maps",
        help="Take half-maps that lie beside the map, and say so.",
    ),
]

Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--model", help="Model in the map's frame (.cif, .pdb, .gz); may be repeated.", show_default=False
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by",
        metavar="chain|residue|entity|ligand",
        help="What is a region of the model [default: chain].",
        show_default=False,
    ),
]
ByReading = Annotated[
    bool,
    typer.Option(
        "--by-reading",
        help="Read the local scale at the atoms, instead of a joint fit of the model's parts.",
        show_default=False,
    ),
]
Selections = Annotated[
    Path | None,
    typer.Option(
        "--regions", help="YAML file naming chains and residue ranges, instead of --by.", show_default=False
    ),
]
Masks = Annotated[
    list[str] | None,
    typer.Option(
        "--masks",
        metavar="PATTERN",
        help="Masks as regions: file, folder, or pattern in quotes; may be repeated.",
        show_default=False,
    ),
]

# Of occupy classes.
SetInputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="model.star, optimiser.star, job folder (RELION, cryoSPARC, cryoDRGN), or maps.",
    ),
]
CommonLowpass = Annotated[
    float | None,
    typer.Option(
        "--lowpass",
        help="Å: common resolution [default: of the least resolved class, 8 at the finest].",
        show_default=False,
    ),
]
Components = Annotated[
    bool, typer.Option("--components/--no-components", help="Find parts that come and go together.")
]
Compare = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--compare",
        metavar="A B",
        help="Script of the difference of two classes (names or numbers).",
        show_default=False,
    ),
]
Resample = Annotated[
    bool,
    typer.Option("--resample", help="Bring maps on other grids onto the first one's.", show_default=False),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with a run that was stopped.", show_default=False)
]
MapsAtATime = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Maps worked on at a time [default: one per processor, up to 8].",
        show_default=False,
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Work on the Dask cluster of this scheduler, such as tcp://node17:8786.",
        show_default=False,
    ),
]
