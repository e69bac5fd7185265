"""The record of reading regions: inputs with checksums, what was asked, what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from occupy._version import __version__
from occupy.errors import Notice
from occupy.io.checksum import sha256_of
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable

FORMAT = 1


def file_of(path: Path) -> dict[str, Any]:
    """Describe an input file: where, checksum, size."""
    return {"path": str(path.resolve()), "sha256": sha256_of(path), "bytes": path.stat().st_size}


def region_record(
    table: OccupancyTable,
    regions: Sequence[Region],
    *,
    inputs: Mapping[str, Any],
    options: Mapping[str, Any],
    outputs: Mapping[str, str],
    notices: Sequence[Notice] = (),
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the record of a table of occupancies as plain values.

    Parameters
    ----------
    table : OccupancyTable
        What was read.
    regions : sequence of Region
        In the order of the table's rows.
    inputs : mapping
        Role → description of a file, or list of them.
    options : mapping
        What was asked for.
    outputs : mapping
        Product → file name within the folder of the record.
    notices : sequence of Notice
        What is doubtful.
    command : sequence of str
        The command line.
    """
    return {
        "program": "occupy",
        "format": FORMAT,
        "what": "regions",
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "inputs": dict(inputs),
        "options": dict(options),
        "values": table.kind,
        "interval_95_in_standard_errors": table.reach_95,
        "maps": [
            {"name": name, "share_of_particles": float(weight)}
            for name, weight in zip(table.maps, table.weights, strict=True)
        ],
        "regions": [
            {
                "name": region.name,
                "kind": region.kind,
                "voxels": len(region.voxels),
                "independent_voxels": round(float(independent), 2),
                "residues": len(region.residues),
            }
            for region, independent in zip(regions, table.independent, strict=True)
        ],
        "median_of_each_map": [float(v) for v in np.nanmedian(table.values, axis=0)],
        "notices": [asdict(notice) for notice in notices],
        "outputs": dict(outputs),
    }
