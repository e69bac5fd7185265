"""`occupy mask`: masks from a scale map or the folder of an estimate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from occupy.cli.console import say
from occupy.errors import InputError


def _scale_file(source: Path) -> tuple[Path, dict[str, Any] | None]:
    """Return the scale map behind a file, folder or record, and the record where there is one."""
    from occupy.report.record import find_record, output_file, read_record

    if source.is_dir() or source.suffix == ".json":
        path = find_record(source)
        record = read_record(path)
        return output_file(path, record, "scale"), record
    return source, None


def write_subtraction_mask(
    source: Path,
    output: Path | None,
    *,
    attenuate: float | None,
    sigmoid: float | None,
    pivot: float,
    soft_edge: float,
    quiet: bool,
) -> None:
    """Write a mask for `relion_particle_subtract`."""
    from occupy.io.mrc import map_stem, read_map, write_map
    from occupy.masks import smooth, subtraction_mask

    if not (math.isfinite(soft_edge) and soft_edge >= 0):
        raise InputError(f"soft edge must not be negative, not {soft_edge}")
    path, _ = _scale_file(source)
    scale = read_map(path)
    _check_scale(scale.data, path)
    mask = subtraction_mask(scale.data, attenuate=attenuate, sigmoid=sigmoid, pivot=pivot)
    if soft_edge > 0:
        mask = smooth(mask, scale.voxel_size, soft_edge)
    stem = map_stem(path).removesuffix("_scale")
    target = output or path.with_name(f"{stem}_subtraction_mask.mrc")
    write_map(target, scale.with_data(mask), "subtraction mask, 1 = keep")
    say(
        f"{target}: keeps {mask.mean():.1%} of the box; 1 is kept and 0 subtracted (RELION's convention)",
        quiet,
    )


# A scale that is content in any map: no threshold chosen for the user lies above it.
_SURE = 0.5


def _default_thresholds(record: dict[str, Any]) -> tuple[float, float]:
    """Return the scale that is content, and the lower one that is content where it touches such.

    Both on the scale map's own axis: recalibration has put the lowest confident scale at zero.
    """
    from occupy.report.record import number_in

    weak = number_in(record, "lowest_confident_scale")
    strong = max(weak, min(_SURE, 2 * weak))
    if record["settings"].get("recalibrate"):
        return (strong - weak) / (1 - weak), 0.0
    return strong, weak


def write_solvent_definition(
    source: Path,
    output: Path | None,
    *,
    threshold: float | None,
    weak: float | None,
    smallest: float,
    extend: float,
    soft_edge: float,
    quiet: bool,
) -> None:
    """Write a mask of the content, for `--solvent-mask` here and as a mask elsewhere.

    Without a threshold, what is confidently content is kept where it touches something twice as strong.
    """
    from occupy.io.mrc import map_stem, read_map, write_map
    from occupy.masks import solvent_definition

    path, record = _scale_file(source)
    if threshold is None:
        if record is None:
            raise InputError(
                "give a --threshold (a scale between 0 and 1), or the folder of an estimate instead of a map"
            )
        strong, lowest = _default_thresholds(record)
        weak = lowest if weak is None else weak
        threshold = max(weak, strong)
    scale = read_map(path)
    _check_scale(scale.data, path)
    mask = solvent_definition(
        scale.data,
        threshold,
        scale.voxel_size,
        weak=weak,
        smallest=smallest,
        extend=extend,
        soft_edge=soft_edge,
    )
    stem = map_stem(path).removesuffix("_scale")
    target = output or path.with_name(f"{stem}_solvent_mask.mrc")
    write_map(target, scale.with_data(mask), f"content, scale above {threshold:.3g}")
    kept = f", weak parts above {weak:.3g}" if weak is not None else ""
    share = f"{(mask > 0.5).mean():.1%} of the box"
    say(f"{target}: content (1) is {share}, scale above {threshold:.3g}{kept}", quiet)


def _check_scale(data: Any, path: Path) -> None:
    if not (data.min() >= -1e-6 and data.max() <= 1 + 1e-6):
        raise InputError(
            f"{path}: not a scale map (values from {data.min():.3g} to {data.max():.3g}, not 0 to 1)"
        )
