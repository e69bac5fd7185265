"""Options that several commands have in common."""

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
