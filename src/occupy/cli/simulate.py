"""`occupy simulate` and `occupy demo`: maps with known occupancy from a model."""

from __future__ import annotations

from pathlib import Path

from occupy.cli.console import progress, say
from occupy.requests import SimulationRequest
from occupy.settings import Output, Settings


def run_simulation(asked: SimulationRequest, output: Path, quiet: bool) -> None:
    """Simulate what was asked for, write it, and say what was written."""
    from occupy.report.simulated import write_request
    from occupy.simulation.asked import simulate_request

    files = write_request(output, asked, simulate_request(asked))
    for name in files.values():
        say(str(output / name), quiet)


def run_demo(output: Path, seed: int, quiet: bool) -> None:
    """Simulate the bundled complex, estimate it, and print true and estimated occupancy per chain."""
    from occupy.cli.estimate import Job, run
    from occupy.io.atomic import make_folder, write_text
    from occupy.io.mrc import read_map, write_map
    from occupy.simulation import chain_values, demo_occupancies, demo_structure, simulate
    from occupy.volume import Volume, answer_in

    say("Simulating PDB entry 7PBL (RuvAB on a Holliday junction) with chains of known occupancy …", quiet)
    structure = demo_structure()
    made = simulate(structure, occupancies=demo_occupancies(structure), seed=seed)
    folder = make_folder(output)
    path = folder / "demo.mrc"
    write_map(path, Volume.from_array(made.map, made.voxel_size, "demo"), "simulated, PDB 7PBL")
    made.structure.make_mmcif_document().write_file(str(folder / "demo_model.cif"))
    settings = Settings(amplify=3.0, exclude_solvent=True, seed=seed)
    with progress("demo", quiet) as report:
        job = Job(settings, wanted=Output(plot=True), quiet=quiet)
        written = run(job.files(path).open(settings), folder, job, None, report)
    scale = read_map(folder / written.files[answer_in(written.files)])
    values = chain_values(scale.data, made.voxel_size, made.structure)
    rows = [(name, made.occupancies[name], values[name]) for name in values]
    lines = [f"{name}\t{true:.2f}\t{found:.2f}" for name, true, found in rows]
    write_text(folder / "demo_occupancies.tsv", "\n".join(["unit\ttrue\testimated", *lines]) + "\n")
    say("\nunit   true   estimated", quiet)
    for name, true, found in rows:
        say(f"{name:<6} {true:4.2f}   {found:4.2f}  {'█' * round(20 * found)}", quiet)
    error = sum(abs(true - found) for _, true, found in rows) / len(rows)
    say(f"mean absolute error {error:.3f}", quiet)
    say(f"\nPictures, maps and the ChimeraX script are in {folder}/ :", quiet)
    for name in written.files.values():
        say(f"  {folder / name}", quiet)
