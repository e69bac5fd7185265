"""`occupy particles`: which parts each particle has, from its image, its pose and a model."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from occupy.cli.console import progress, say, warn
from occupy.errors import InputError, Notice
from occupy.requests import ParticleRequest, RegionRequest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from occupy.particles.images import ParticleImages
    from occupy.particles.pipeline import ParticleOccupancy
    from occupy.volume import Volume

_SHOWN = 30
_REST = "rest"


def estimate_particles(
    source: Path, output: Path | None, parts: RegionRequest, asked: ParticleRequest, quiet: bool
) -> None:
    """Read everything, estimate, write everything, print a summary."""
    from occupy.io.atomic import make_folder
    from occupy.io.particle_images import read_particle_images
    from occupy.numerics.parallel import available_cores
    from occupy.particles.pipeline import SHORTEST, Options, grid_for, particle_occupancy

    parts.check()
    if parts.masks and (asked.map is None or parts.models):
        raise InputError("--masks cut parts out of a map: give --map CONSENSUS, and no --model")
    images, notices = read_particle_images(source, asked.passthrough)
    options = Options(
        shortest=asked.shortest or SHORTEST, refine=asked.refine, threads=asked.threads or available_cores()
    )
    size = grid_for(images, options)[1]
    with progress(source.name, quiet, "images") as report:
        report("parts", 0, 0)
        names, volumes, more = _parts(parts, asked.map, images, size, options.shortest)
        if len(names) < 2:
            raise InputError(
                "one part only: there is nothing to compare it with; use --by chain or --regions"
            )
        found = particle_occupancy(images, names, volumes, options, report)
    found = replace(found, notices=(*notices, *more, *found.notices))
    folder = make_folder(output or Path(f"occupy_particles_{source.name.split('.')[0]}"))
    files = _write(source, folder, found, parts, asked)
    _summarise(found, files, folder, quiet)


Parts = tuple[tuple[str, ...], "npt.NDArray[np.float32]", tuple[Notice, ...]]


def _parts(
    parts: RegionRequest, consensus: Path | None, images: ParticleImages, size: int, shortest: float
) -> Parts:
    """Names and densities of the parts on a cube of `size` voxels over the side of the images."""
    if parts.masks:
        return _parts_of_masks(parts, consensus, images, size)
    return _parts_of_model(parts, consensus, images, size, shortest)


def _parts_of_model(
    parts: RegionRequest, consensus: Path | None, images: ParticleImages, size: int, shortest: float
) -> Parts:
    import numpy as np

    from occupy.io.models import read_model
    from occupy.io.mrc import read_map
    from occupy.io.tables import read_selections
    from occupy.regions.region import regions_of_model
    from occupy.simulation.parts import PartAtoms, part_densities
    from occupy.volume import Volume

    model = read_model(parts.models)
    by: Any = parts.by or "chain"
    named = None if parts.selections is None else read_selections(parts.selections)
    grid = Volume.from_array(np.zeros((size,) * 3, dtype=np.float32), images.side / size, "the images")
    first = np.zeros(3)
    if consensus is not None:
        grid = read_map(consensus)
        _check_side(grid, images)
        first = grid.position((0, 0, 0))
    regions = regions_of_model(model, grid, by, selections=named)
    part = np.full(len(model.xyz), -1, dtype=np.int64)
    for number, region in enumerate(regions):
        part[np.isin(model.residue, region.residues)] = number
    names = tuple(region.name for region in regions)
    # What no selection names is there too, and the images show it.
    rest = (part < 0) & np.array([model.residues[i].kind == "polymer" for i in model.residue])
    if rest.any():
        part[rest], names = len(names), (*names, _REST)
    atoms = PartAtoms(model.xyz - first, model.elements, part, names)
    return (
        names,
        np.stack(list(part_densities(atoms, images.side, size, max(shortest, 2 * images.side / size)))),
        (),
    )


def _check_side(volume: Volume, images: ParticleImages) -> None:
    side = [n * a for n, a in zip(volume.shape, volume.voxel_size, strict=True)]
    if max(abs(each - images.side) for each in side) > 0.01 * images.side:
        box = " x ".join(f"{each:.1f}" for each in side)
        raise InputError(
            f"{volume.name}: a box of {box} Å, but images of {images.side:.1f} Å; give the consensus map of "
            "these particles"
        )


def _parts_of_masks(parts: RegionRequest, path: Path | None, images: ParticleImages, size: int) -> Parts:
    import numpy as np

    from occupy.io.mrc import map_stem, read_map
    from occupy.particles.slices import cropped
    from occupy.regions.region import check_same_grid
    from occupy.report.region_results import mask_files

    assert path is not None
    consensus = read_map(path)
    _check_side(consensus, images)
    names, volumes = [], []
    left = np.ones(consensus.shape, dtype=np.float32)
    for file in mask_files(parts.masks):
        mask = read_map(file)
        check_same_grid(mask, consensus)
        weight = np.minimum(np.clip(mask.data, 0, 1), left)
        left = left - weight
        names.append(map_stem(file))
        volumes.append(cropped(consensus.data * weight, size))
    names.append(_REST)
    volumes.append(cropped(consensus.data * left, size))
    text = "parts were cut out of a map of these particles, which holds their noise: prefer a model"
    return tuple(names), np.stack(volumes), (Notice("same-particles", text),)


def _write(
    source: Path, folder: Path, found: ParticleOccupancy, parts: RegionRequest, asked: ParticleRequest
) -> dict[str, str]:
    from occupy.io.atomic import write_text
    from occupy.report.particle_results import particle_record, write_particle_report, write_tables
    from occupy.report.record import file_of, to_json

    record, report = folder / "particles.json", folder / "report.html"
    # Record and report of an earlier run must not vouch for files that are about to replace its own.
    record.unlink(missing_ok=True)
    report.unlink(missing_ok=True)
    files = write_tables(folder, found)
    if source.name.lower().endswith((".star", ".star.gz")):
        files["particles"] = _write_states(source, folder, found)
    write_particle_report(report, found, source.name)
    files["report"] = report.name
    inputs: dict[str, Any] = {"particles": file_of(source)}
    inputs |= {"model": [file_of(path) for path in parts.models]} if parts.models else {}
    inputs |= {"map": file_of(asked.map)} if asked.map is not None else {}
    options = {**parts.options, "shortest": asked.shortest, "refine": asked.refine}
    about = particle_record(
        found, inputs=inputs, options=options, outputs=files | {"record": record.name}, command=sys.argv
    )
    write_text(record, to_json(about))
    return files | {"record": record.name}


def _write_states(source: Path, folder: Path, found: ParticleOccupancy) -> str:
    """Write the particles with the number of their state as class, for RELION."""
    from occupy.io.star import check_star_rows, find_star_rows, read_star, write_with_column

    block, columns = next((n, t) for n, t in read_star(source).items() if t.has("rlnImageName"))
    rows = find_star_rows(source, block)
    check_star_rows(source, rows, columns.column(rows.first))
    target = folder / "particles_states.star"
    values = [str(number + 1) for number in found.state]
    write_with_column(rows, columns.columns, "rlnClassNumber", values, target)
    return target.name


def _summarise(found: ParticleOccupancy, files: dict[str, str], folder: Path, quiet: bool) -> None:
    from occupy.report.particle_results import pair_rows, state_rows

    for notice in found.notices:
        warn(notice.text, quiet)
    varying = int(found.levels.varying.sum())
    say(
        f"{len(found.state)} particles, {len(found.names)} parts, {varying} of them not in all particles:",
        quiet,
    )
    low, high = found.interval()
    width = max(map(len, found.names))
    order = sorted(range(len(found.names)), key=lambda i: float(found.occupancy[i]))
    for i in [i for i in order if found.levels.varying[i]][:_SHOWN]:
        say(f"  {found.names[i]:<{width}}  {found.occupancy[i]:.2f}  ({low[i]:.2f} to {high[i]:.2f})", quiet)
    for one, other, value, error in pair_rows(found)[:5]:
        say(f"  {one} with {other}: correlation {value:+.2f} ± {error:.2f}", quiet)
    say("states:", quiet)
    for _, share, error, _, lacks in state_rows(found)[:_SHOWN]:
        say(f"  {share:.3f} ± {error:.3f}  lacks {lacks}", quiet)
    for what, name in files.items():
        say(f"  {what:<13} {folder / name}", quiet)
