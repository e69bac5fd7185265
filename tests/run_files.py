"""Files of runs as programs write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from occupy.runs.agreement import Partition


def write_star(
    path: Path, one: Partition, names: Sequence[str] | None = None, *, optics: bool = True
) -> Path:
    """Write a run as RELION's data.star: 3.1 and later with a table of optics, before without a name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = names or [f"{i + 1:06d}@stack.mrcs" for i in range(len(one.labels))]
    head = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnImagePixelSize #2\n1 3.2\n\n" if optics else ""
    head += f"data_{'particles' if optics else ''}\n\nloop_\n_rlnImageName #1\n_rlnClassNumber #2\n"
    head += "_rlnMaxValueProbDistribution #3\n"
    numbers = np.asarray(one.classes)[one.labels]
    assert one.certainty is not None
    rows = [f"{n} {k} {p:.6f}" for n, k, p in zip(names, numbers, one.certainty, strict=True)]
    path.write_text(head + "\n".join(rows) + "\n")
    return path
