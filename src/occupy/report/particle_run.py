"""The way of `occupy particles`: from images and a model to the occupancy of parts, and to its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError, Notice
from occupy.io.atomic import make_folder, write_text
from occupy.io.mapset import find_half_maps
from occupy.io.models import read_model
from occupy.io.mrc import map_stem, read_map
from occupy.io.particle_images import FolderStore, forget_pieces, read_particle_images, state_of
from occupy.io.particles import write_with_class
from occupy.io.star import StarRows, read_star
from occupy.io.tables import read_selections
from occupy.model import AtomicModel
from occupy.numerics.parallel import available_cores
from occupy.particles.agreement import ImagesAndMap, OfMap, compare_with_map, disagreements
from occupy.particles.images import ParticleImages
from occupy.particles.pipeline import SHORTEST, Options, ParticleOccupancy, grid_for, particle_occupancy
from occupy.particles.slices import cropped
from occupy.regions.joint import fit_regions
from occupy.regions.region import Region, check_same_grid, regions_of_model
from occupy.report.particle_results import particle_record, write_maps, write_particle_report, write_tables
from occupy.report.record import file_of, to_json
from occupy.report.region_results import mask_files
from occupy.requests import ParticleRequest, RegionRequest
from occupy.simulation.potential import PartAtoms
from occupy.volume import Volume

_REST = "rest"
_Parts = tuple[tuple[str, ...], npt.NDArray[np.float32], tuple[Notice, ...]]


def estimate_parts(
    source: Path,
    parts: RegionRequest,
    asked: ParticleRequest,
    report: Callable[[str, int, int], None] = lambda *_: None,
    folder: Path | None = None,
) -> ParticleOccupancy:
    """Estimate which parts each particle has.

    Parameters
    ----------
    source : Path
        RELION's ``particles.star`` or cryoSPARC's ``particles.cs``.
    parts : RegionRequest
        Parts of a model, or masks that cut them out of the consensus map.
    asked : ParticleRequest
        How.
    report : callable
        ``report(stage, done, total)``.
    folder : Path, optional
        Of the results: finished pieces are kept there until these are written, and found again by the next
        run where this one is killed.
    """
    parts.check()
    if parts.masks and (asked.map is None or parts.models):
        raise InputError("--masks cut parts out of a map: give --map CONSENSUS, and no --model")
    images, notices = read_particle_images(source, asked.passthrough)
    options = Options(
        longest=asked.longest or inf,
        shortest=asked.shortest or SHORTEST,
        refine=asked.refine,
        threads=asked.threads or available_cores(),
        full_densities=not parts.masks,
    )
    size = grid_for(images, options)[1]
    report("parts", 0, 0)
    names, volumes, more = _parts(parts, asked.map, images, size, options.shortest)
    if len(names) < 2:
        raise InputError("one part only: there is nothing to compare it with; use --by chain or --regions")
    store = None
    if folder is not None:
        settings = repr(replace(options, threads=1))
        store = FolderStore(make_folder(folder), *state_of(images), volumes, settings)
    found = particle_occupancy(images, names, volumes, options, report, store)
    beside, told = _beside(parts, asked.map, found)
    return replace(found, beside=beside, notices=(*notices, *more, *found.notices, *told))


def write_parts(
    source: Path,
    folder: Path,
    found: ParticleOccupancy,
    parts: RegionRequest,
    asked: ParticleRequest,
    command: Sequence[str] = (),
) -> dict[str, str]:
    """Write tables, particles with their states, report and record; return what → file name.

    Parameters
    ----------
    source, parts, asked
        What it was made of, for the record.
    folder : Path
        Made if it is not there.
    found : ParticleOccupancy
        From `estimate_parts`.
    command : sequence of str
        Command line, for the record.
    """
    make_folder(folder)
    record, report = folder / "particles.json", folder / "report.html"
    # Record and report of an earlier run must not vouch for files that are about to replace its own.
    record.unlink(missing_ok=True)
    report.unlink(missing_ok=True)
    files = write_tables(folder, found)
    origin = (0.0, 0.0, 0.0) if asked.map is None else tuple(read_map(asked.map).position((0, 0, 0)))
    files |= write_maps(folder, found, origin)
    files["particles"] = _write_states(source, folder, found)
    write_particle_report(report, found, source.name)
    files["report"] = report.name
    inputs: dict[str, Any] = {"particles": file_of(source)}
    inputs |= {"model": [file_of(path) for path in parts.models]} if parts.models else {}
    inputs |= {"map": file_of(asked.map)} if asked.map is not None else {}
    options = parts.options | {name: getattr(asked, name) for name in ("longest", "shortest", "refine")}
    about = particle_record(
        found, inputs=inputs, options=options, outputs=files | {"record": record.name}, command=command
    )
    write_text(record, to_json(about))
    forget_pieces(folder)
    return files | {"record": record.name}


def _beside(
    parts: RegionRequest, consensus: Path | None, found: ParticleOccupancy
) -> tuple[tuple[ImagesAndMap, ...], tuple[Notice, ...]]:
    """Occupancies of the same parts by the joint fit of the map, where there are map and model."""
    if consensus is None or not parts.models:
        return (), ()
    volume = read_map(consensus)
    model, regions = _regions(parts, volume)
    try:
        joint = fit_regions(volume, model, regions)
    except InputError as error:
        joint = str(error)
    if isinstance(joint, str):
        return (), (Notice("no-joint-fit", f"the map was not fitted beside the images: {joint}"),)
    fit, middle = joint.fit, float(np.median(joint.fit.b_factors))
    of_map = {
        name: OfMap(
            float(fit.values[i]), float(fit.errors[i]), float(fit.b_factors[i]) - middle, name in joint.poor
        )
        for i, name in enumerate(fit.names)
        if name not in joint.untold
    }
    rows = compare_with_map(found, of_map)
    return rows, disagreements(rows)


def _parts(
    parts: RegionRequest, consensus: Path | None, images: ParticleImages, size: int, shortest: float
) -> _Parts:
    """Names and densities of the parts on a cube of `size` voxels over the side of the images."""
    if parts.masks:
        return _parts_of_masks(parts, consensus, images, size)
    return _parts_of_model(parts, consensus, images, size, shortest)


def _parts_of_model(
    parts: RegionRequest, consensus: Path | None, images: ParticleImages, size: int, shortest: float
) -> _Parts:
    grid = Volume.from_array(np.zeros((size,) * 3, dtype=np.float32), images.side / size, "the images")
    first = np.zeros(3)
    if consensus is not None:
        grid = read_map(consensus)
        _check_side(grid, images)
        first = grid.position((0, 0, 0))
    model, regions = _regions(parts, grid)
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
        np.stack(list(atoms.densities(images.side, size, max(shortest, 2 * images.side / size)))),
        (),
    )


def _regions(parts: RegionRequest, grid: Volume) -> tuple[AtomicModel, list[Region]]:
    """Model and the regions of it that are asked for."""
    model = read_model(parts.models)
    by: Any = parts.by or "chain"
    named = None if parts.selections is None else read_selections(parts.selections)
    return model, list(regions_of_model(model, grid, by, selections=named))


def _check_side(volume: Volume, images: ParticleImages) -> None:
    side = [n * a for n, a in zip(volume.shape, volume.voxel_size, strict=True)]
    if max(abs(each - images.side) for each in side) > 0.01 * images.side:
        box = " x ".join(f"{each:.1f}" for each in side)
        raise InputError(
            f"{volume.name}: a box of {box} Å, but images of {images.side:.1f} Å; give the consensus map of "
            "these particles"
        )


def _parts_of_masks(parts: RegionRequest, path: Path | None, images: ParticleImages, size: int) -> _Parts:
    """Parts cut out of the consensus, or for each half of the images out of the other half's map."""
    assert path is not None
    consensus = read_map(path)
    _check_side(consensus, images)
    names, weights = [], []
    left = np.ones(consensus.shape, dtype=np.float32)
    for file in mask_files(parts.masks):
        mask = read_map(file)
        check_same_grid(mask, consensus)
        weights.append(np.minimum(np.clip(mask.data, 0, 1), left))
        left = left - weights[-1]
        names.append(map_stem(file))
    names, weights = [*names, _REST], [*weights, left]
    sources, notice = _apart(path, consensus, images)
    cut = [np.stack([cropped(each.data * weight, size) for weight in weights]) for each in sources]
    return tuple(names), cut[0] if len(cut) == 1 else np.stack(cut), (notice,)


def _apart(path: Path, consensus: Volume, images: ParticleImages) -> tuple[list[Volume], Notice]:
    """Return what parts are cut out of: for each half of the images the other's map, where there are such."""
    pair = find_half_maps(path)
    once = images.particle is None or len(np.unique(images.particle)) == len(images)
    if pair is None or images.half is None or not once:
        why = (
            "no half-maps lie beside it" if pair is None
            else "the particles' file does not say which half each is in" if images.half is None
            else "particles are symmetry-expanded"
        )  # fmt: skip
        text = (
            f"parts were cut out of a map of these particles, which holds their noise ({why}): prefer a model"
        )
        return [consensus], Notice("same-particles", text)
    halves = [read_map(each) for each in pair]
    for each in halves:
        check_same_grid(each, consensus)
    text = (
        f"parts were cut out of {pair[0].name} and {pair[1].name}: no particle is compared with its own noise"
    )
    return halves[::-1], Notice("halves-apart", text)


def _write_states(source: Path, folder: Path, found: ParticleOccupancy) -> str:
    """Write the particles with their state as class: RELION counts from 1, cryoSPARC from 0."""
    if source.name.lower().endswith(".cs"):
        write_with_class(source, found.state, folder / "particles_states.cs")
        return "particles_states.cs"
    block = next(iter(read_star(source, columns=("rlnImageName",))))
    target = folder / "particles_states.star"
    values = [str(number + 1) for number in found.state]
    StarRows.find(source, block).write_with_column("rlnClassNumber", values, target)
    return target.name
