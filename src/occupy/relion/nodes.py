"""Which of a job's files other RELION jobs can take as input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from occupy.io.atomic import write_text
from occupy.relion.exit_files import OUTPUT_NODES

MOST_NODES = 100


class NodeType(NamedTuple):
    """A type in RELION's three styles: number (3.1), label (4 and 5), depth of the label (5)."""

    number: int
    label: str
    depth: int


MAP = NodeType(6, "DensityMap.mrc", 1)
MASK = NodeType(7, "Mask3D.mrc", 1)
PARTICLES = NodeType(3, "ParticleGroupMetadata.star.relion", 1)
LOGFILE = NodeType(13, "LogFile.pdf.relion", 1)


def type_of(name: str) -> NodeType | None:
    """Return the type of a file by its name; None for what RELION has no use for."""
    low = name.lower()
    if low.endswith(".mrc"):
        return MASK if low.endswith(("_mask.mrc", "confidence.mrc")) else MAP
    if low.endswith(".star"):
        return PARTICLES
    return LOGFILE if low == "logfile.pdf" else None


def written_files(folder: Path, since: float = 0.0) -> list[str]:
    """Return the names of the files that records in a folder say were written, each once and existing.

    Parameters
    ----------
    folder : Path
        The job's folder.
    since : float
        Records that are older (seconds since 1970) are those of an earlier run and don't count.
    """
    found: dict[str, None] = {}
    for record in sorted(folder.glob("*.json")):
        try:
            # File systems may count in whole seconds.
            if record.stat().st_mtime < since - 1:
                continue
            about = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(about, dict) and "outputs" in about:
            found |= dict.fromkeys(_texts(about["outputs"]))
            found |= dict.fromkeys(
                _texts([m.get("outputs") for m in about.get("maps", []) if isinstance(m, dict)])
            )
    found |= {"logfile.pdf": None}
    # A record names files of its own folder only; another name would lead RELION elsewhere.
    return [name for name in found if Path(name).name == name and (folder / name).is_file()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def nodes_text(folder: str, names: Sequence[str]) -> str:
    """Return the table of output nodes, readable by RELION 3.1, 4 and 5."""
    lines = ["", "data_output_nodes", "", "loop_"]
    columns = ("Name", "Type", "TypeLabel", "TypeLabelDepth")
    lines += [f"_rlnPipeLineNode{column} #{i}" for i, column in enumerate(columns, start=1)]
    for name in names:
        kind = type_of(name)
        if kind is not None:
            path = f"{folder}{name}"
            path = f'"{path}"' if any(c.isspace() for c in path) else path
            lines.append(f"{path} {kind.number} {kind.label} {kind.depth}")
    return "\n".join([*lines, "", ""])


def write_nodes(folder: str, since: float = 0.0) -> list[str]:
    """Write ``RELION_OUTPUT_NODES.star`` for the results in a folder; return the files it names."""
    names = [name for name in written_files(Path(folder), since) if type_of(name) is not None][:MOST_NODES]
    write_text(Path(folder) / OUTPUT_NODES, nodes_text(folder, names))
    return names
