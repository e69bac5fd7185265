"""Write simulated maps with their truth, so that they can be read as what they stand for."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from occupy._version import __version__
from occupy.io.atomic import atomic_file, make_folder, write_text
from occupy.io.mrc import write_map
from occupy.io.tables import write_chain_table
from occupy.report.chimerax_files import simulation_script
from occupy.report.record import to_json
from occupy.requests import SimulationRequest
from occupy.simulation import ClassSet, Simulation
from occupy.simulation.request import Simulated
from occupy.volume import Volume

if TYPE_CHECKING:
    import gemmi

_NO_RESOLUTION = 999.0


def write_request(folder: Path, asked: SimulationRequest, done: Simulated) -> dict[str, str]:
    """Write what `simulate_request` made; return what → file name."""
    if isinstance(done.made, ClassSet):
        return _write_class_set(folder, done.made, asked.as_written(), done.blocks, done.further)
    return _write_simulation(folder, done.name, done.made, asked.as_written(), done.blocks)


def _write_simulation(
    folder: Path,
    name: str,
    made: Simulation,
    settings: Mapping[str, Any],
    blocks: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Write one map, its halves, model, truth and record.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    name : str
        What file names begin with.
    made : Simulation
        From `occupy.simulate`.
    settings : mapping
        Everything needed to repeat it, for the record.
    blocks : mapping, optional
        Chain → block, for the truth table.

    Returns
    -------
    dict of str to str
        What → file name.
    """
    record = make_folder(folder) / f"{name}_simulation.json"
    # The record of an earlier run must not vouch for files that are about to replace its own.
    record.unlink(missing_ok=True)
    files = _write_maps(folder, name, made)
    files["model"] = _write_model(folder / f"{name}_model.cif", made.structure)
    files["truth"] = f"{name}_truth.csv"
    write_chain_table(folder / files["truth"], {"occupancy": made.occupancies}, blocks)
    files["b_factors"] = f"{name}_b_factors.csv"
    write_chain_table(folder / files["b_factors"], {"b_factor": made.b_factors}, blocks)
    files["chimerax"] = _write_script(folder / f"{name}.cxc", {name: files["map"]}, files["model"], made)
    numbers = _numbers(made)
    _write_record(record, settings, {"map": numbers}, files)
    return files | {"record": record.name}


def _write_class_set(
    folder: Path,
    made: ClassSet,
    settings: Mapping[str, Any],
    blocks: Mapping[str, str] | None = None,
    further: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Write a class set as the last iteration of a RELION job, with consensus, model, truth and record.

    Parameters
    ----------
    folder, settings, blocks
        As for `_write_simulation`.
    made : ClassSet
        From `occupy.simulate_classes`.
    further : mapping, optional
        More to say in the record, such as the states that classes mix.

    Returns
    -------
    dict of str to str
        What → file name.
    """
    record = make_folder(folder) / "simulation.json"
    record.unlink(missing_ok=True)
    # As RELION's last iteration is called by default.
    run = "run_it025"
    names = [f"class{k:03d}" for k in range(1, len(made.classes) + 1)]
    files: dict[str, str] = {}
    maps = {name: (f"{run}_{name}", one) for name, one in zip(names, made.classes, strict=True)}
    for name, (stem, one) in (maps | {"consensus": ("consensus", made.consensus)}).items():
        written = _write_maps(folder, stem, one)
        files |= {name if what == "map" else f"{name}_{what}": file for what, file in written.items()}
    files["model"] = _write_model(folder / "model.cif", made.consensus.structure)
    shown = {"consensus": files["consensus"]}
    shares = zip(names, made.weights, strict=True)
    shown |= {f"class {int(name[5:])} ({100 * share:.0f} %)": files[name] for name, share in shares}
    files["chimerax"] = _write_script(folder / "simulation.cxc", shown, files["model"], made.consensus)
    columns = {name: one.occupancies for name, one in zip(names, made.classes, strict=True)}
    for what, table in (("truth", columns), ("truth_consensus", {"occupancy": made.consensus.occupancies})):
        files[what] = f"{what}.csv"
        write_chain_table(folder / files[what], table, blocks)
    files["b_factors"] = "b_factors.csv"
    write_chain_table(folder / files["b_factors"], {"b_factor": made.consensus.b_factors}, blocks)
    numbers = {name: _numbers(one) for name, one in zip(names, made.classes, strict=True)}
    numbers |= {"weights": list(made.weights)} | dict(further or {})
    files["relion_model"] = f"{run}_model.star"
    write_text(folder / files["relion_model"], _model_star(made, [files[name] for name in names]))
    _write_record(record, settings, numbers, files)
    return files | {"record": record.name}


def _write_maps(folder: Path, name: str, made: Simulation) -> dict[str, str]:
    """Write a map and its halves; return what → file name."""
    maps: dict[str, NDArray[np.float32]] = {"map": made.map}
    if made.half_maps is not None:
        maps |= {"half1": made.half_maps[0], "half2": made.half_maps[1]}
    files = {what: f"{name}.mrc" if what == "map" else f"{name}_{what}.mrc" for what in maps}
    for what, data in maps.items():
        write_map(folder / files[what], Volume.from_array(data, made.voxel_size, name), "simulated")
    return files


def _write_model(path: Path, structure: gemmi.Structure) -> str:
    """Write a model as mmCIF; return its name."""
    named = structure.clone()
    named.setup_entities()
    with atomic_file(path) as part:
        named.make_mmcif_document().write_file(str(part))
    return path.name


def _write_script(path: Path, maps: Mapping[str, str], model: str, made: Simulation) -> str:
    """Write a ChimeraX script of simulated maps and their model; return its name."""
    atoms = sum(1 for chain in made.structure[0] for residue in chain for _ in residue)
    # About 17 Å³ for each atom that is not hydrogen: the contour encloses the model's volume.
    share = min(17 * atoms / (made.map.size * made.voxel_size**3), 0.9)
    write_text(path, simulation_script(maps, model, float(np.quantile(made.map, 1 - share))))
    return path.name


def _numbers(made: Simulation) -> dict[str, Any]:
    """Return what the record says of one map."""
    noise = made.map.astype(np.float64) - made.clean
    return {
        "box": made.map.shape[0],
        "voxel_size": made.voxel_size,
        "noise_sigma": float(noise.std()),
        "clean_sigma": float(made.clean.std(dtype=np.float64)),
        "occupancies": dict(made.occupancies),
        "b_factors": dict(made.b_factors),
        "estimated_resolution": made.estimated_resolution,
    }


def _write_record(
    path: Path, settings: Mapping[str, Any], numbers: Mapping[str, Any], files: Mapping[str, str]
) -> None:
    """Write how it was made: settings, seed, versions, what came out, which files."""
    record = {
        "program": "occupy simulate",
        "format": 1,
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "gemmi": metadata.version("gemmi"),
        },
        "settings": dict(settings),
        "numbers": dict(numbers),
        "outputs": dict(files),
    }
    write_text(path, to_json(record))


def _model_star(made: ClassSet, maps: Sequence[str]) -> str:
    """Return a stand-in for RELION's model.star: classes, their shares and, if shrunk by it, their SSNR.

    Parameters
    ----------
    made : ClassSet
        The classes.
    maps : sequence of str
        File of each class, beside the STAR file.
    """
    first = made.classes[0]
    size, voxel = first.map.shape[0], first.voxel_size
    best = min((one.estimated_resolution or _NO_RESOLUTION for one in made.classes), default=_NO_RESOLUTION)
    general = {
        "rlnReferenceDimensionality": 3,
        "rlnDataDimensionality": 2,
        "rlnOriginalImageSize": size,
        "rlnCurrentResolution": f"{best:.6f}",
        "rlnPixelSize": f"{voxel:.6f}",
        "rlnNrClasses": len(maps),
        "rlnTau2FudgeFactor": f"{made.processing.tau2_fudge:.6f}",
    }
    lines = ["# Simulated, not from RELION; made by OccuPy " + __version__, "", "data_model_general", ""]
    lines += [f"_{name} {value}" for name, value in general.items()]
    rows = [
        f"{name} {share:.6f} {one.estimated_resolution or _NO_RESOLUTION:.6f}"
        for name, share, one in zip(maps, made.weights, made.classes, strict=True)
    ]
    columns = ("rlnReferenceImage", "rlnClassDistribution", "rlnEstimatedResolution")
    lines += _loop("model_classes", columns, rows)
    for k, one in enumerate(made.classes, start=1):
        if one.ssnr is not None:
            rows = _shell_rows(one.ssnr, size * voxel)
            names = ("rlnSpectralIndex", "rlnResolution", "rlnAngstromResolution", "rlnSsnrMap")
            lines += _loop(f"model_class_{k}", names, rows)
    return "\n".join(lines) + "\n"


def _shell_rows(ssnr: Sequence[float], side: float) -> list[str]:
    return [
        f"{i} {i / side:.6f} {side / i if i else _NO_RESOLUTION:.6f} {value:.6f}"
        for i, value in enumerate(ssnr)
    ]


def _loop(block: str, columns: Sequence[str], rows: Sequence[str]) -> list[str]:
    names = [f"_{name} #{i}" for i, name in enumerate(columns, start=1)]
    return ["", f"data_{block}", "", "loop_", *names, *rows, ""]
