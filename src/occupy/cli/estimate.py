"""`occupy estimate`: one map or many, each into its own folder; `fetch`, `simulate`, `demo`: maps to try."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from occupy.cli.console import Report, fail, progress, say, warn
from occupy.cli.options import Folder, Run, app, command
from occupy.errors import InputError, Notice, OccupyError
from occupy.settings import Output, Reading, Settings

if TYPE_CHECKING:
    from occupy.inputs import InputFiles, Inputs
    from occupy.report.results import Written
    from occupy.requests import ClassMixture, ImagingWithHalves, Processing, Truth


@dataclass(frozen=True)
class Job:
    """What to do with every map of a run."""

    settings: Settings
    reading: Reading = Reading()
    wanted: Output = Output()
    quiet: bool = False
    resume: bool = False

    def files(self, path: Path) -> InputFiles:
        """Return the files to read for one map."""
        from occupy.inputs import InputFiles

        return InputFiles(path, **vars(self.reading))

    def output(self, level: float | None) -> Output:
        """Return what to write, given the contour level an EMDB entry has."""
        return replace(self.wanted, level=level if self.wanted.level is None else self.wanted.level)


@command(
    "estimate",
    app,
    without={"minimum_scale"},
    examples=(
        "occupy estimate map.mrc --plot --report",
        "occupy estimate run_half1.mrc --attenuate 3 --exclude-solvent -o weak_parts",
    ),
)
def _estimate(
    maps: Annotated[
        list[str],
        typer.Argument(
            metavar="MAP...",
            help="Maps (.mrc, .map, .gz …), EMDB entries (EMD-3061), or a job's folder or model.star.",
        ),
    ],
    *,
    output: Folder = None,
    reading: Reading,
    wanted: Output,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Skip maps whose results are complete.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ] = False,
    run: Run,
    settings: Settings,
) -> None:
    """Write the local scale of one map or many.

    With its confidence and standard error, and modified maps where asked for.
    """
    job = Job(settings, reading, wanted, quiet=run.quiet, resume=resume)
    if _estimate_all(maps, output, job):
        raise typer.Exit(1)


def output_folders(maps: list[Path], output: Path | None) -> list[Path]:
    """Return one folder per map.

    One map: ``output`` itself, or ``occupy_<stem>``. Several: ``<output>/<stem>``, or ``occupy_<stem>``
    each; maps of the same name get their folder's name in front.
    """
    from occupy.io.mrc import map_stem

    stems = [map_stem(path) for path in maps]
    names = [
        f"{path.resolve().parent.name}_{stem}" if stems.count(stem) > 1 else stem
        for path, stem in zip(maps, stems, strict=True)
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"two maps would be written to the same folder ({twice}); run them one by one with -o"
        )
    if output is not None and len(maps) == 1:
        return [output]
    return [Path(f"occupy_{name}") if output is None else output / name for name in names]


def find_map(name: str, quiet: bool) -> tuple[Path, float | None]:
    """Return the file behind a path or an EMDB entry, and the entry's contour level if known."""
    path = Path(name)
    # A folder of an entry's name may be where `occupy fetch -o` put it.
    if path.is_file() or not _is_entry(name):
        return path, None
    from occupy.io.emdb import fetch

    with progress(name, quiet, unit="B") as report:
        entry = fetch(name, progress=lambda label, done, total: report(label, done, total or 0))
    return entry.map_path, entry.contour_level


def _is_entry(name: str) -> bool:
    # The module behind it imports urllib and ssl: only looked at for names that can be an entry.
    if not name.lower().startswith("emd"):
        return False
    from occupy.io.emdb import looks_like_entry_id

    return looks_like_entry_id(name)


def _warn_of_drawn(path: Path, quiet: bool) -> None:
    """Warn where a map is a class that occupy drew towards the others in RELION's loop."""
    if "_class" not in path.name:  # no class of RELION: what tells them apart need not be imported
        return
    from occupy.io.loop import drawn_notice

    drawn = drawn_notice(path)
    if drawn is not None:
        warn(drawn.text, quiet)


def _maps_of(name: str, quiet: bool) -> list[str]:
    """Return a map, or those of a job's folder or STAR file, and say what was found."""
    if not name.lower().endswith(".star") and (not Path(name).is_dir() or _is_entry(name)):
        _warn_of_drawn(Path(name), quiet)
        return [name]
    from occupy.io.sets import find_set
    from occupy.report.contents import refuse_results

    if Path(name).is_dir():
        refuse_results(Path(name))
    found = find_set([name])
    for line in found.describe():
        say(line, quiet)
    for notice in found.notices:
        warn(notice.text, quiet)
    if found.kind == "relion" and not found.unregularised:
        warn(
            f"{name}: RELION shrinks each class by its own signal-to-noise ratio, so scales of different "
            "classes can't be compared; unregularised reconstructions can",
            quiet,
        )
    return [str(each.path) for each in found.maps]


def _estimate_all(names: list[str], output: Path | None, job: Job) -> int:
    """Estimate every map; return how many failed. One that fails does not stop the others."""
    names = [each for name in names for each in _maps_of(name, job.quiet)]
    if job.reading.half_maps is not None and len(names) > 1:
        raise InputError(f"--half-maps belong to one map, but {len(names)} maps were given")
    if len(names) == 1:
        path, level = find_map(names[0], job.quiet)
        _estimate_one(path, output_folders([path], output)[0], job, level)
        return 0
    failures = _estimate_each(names, output, job)
    if failures:
        fail(f"{len(failures)} of {len(names)} maps failed: {', '.join(failures)}")
    return len(failures)


def _estimate_each(names: list[str], output: Path | None, job: Job) -> list[str]:
    """Estimate several maps; return the names of those that failed."""
    found = [(name, *_find_quietly(name, job)) for name in names]
    paths = [path for _, path, _ in found if path is not None]
    folders = dict(zip(paths, output_folders(paths, output), strict=True))
    failures = [name for name, path, _ in found if path is None]
    with progress("maps", job.quiet, unit="maps") as report:
        for number, (name, source, level) in enumerate(found):
            report(name, number, len(found))
            if source is None:
                continue
            try:
                _estimate_one(source, folders[source], job, level, title=None)
            except OccupyError as error:
                fail(f"{error}")
                failures.append(name)
            except MemoryError:
                fail(f"{source}: not enough memory; try --max-box 256")
                failures.append(name)
    return failures


def _find_quietly(name: str, job: Job) -> tuple[Path | None, float | None]:
    try:
        return find_map(name, job.quiet)
    except OccupyError as error:
        fail(str(error))
        return None, None


def _estimate_one(path: Path, folder: Path, job: Job, level: float | None, title: str | None = "map") -> None:
    from occupy.io.mrc import map_stem

    if job.resume and _already_done(path, folder, job, level):
        say(f"{path}: done already, in {folder}", job.quiet)
        return
    # Within a run over many maps the bar counts maps; a bar of its own would fight with it.
    with progress(map_stem(path), job.quiet or title is None) as report:
        report("reading", 0, 0)
        written = run_job(job.files(path).open(job.settings), folder, job, level, report)
    summarise(written, job)


def run_job(inputs: Inputs, folder: Path, job: Job, level: float | None, report: Report) -> Written:
    """Estimate one map that has been opened and write its results."""
    from occupy.report.results import write_results

    est = inputs.estimate(job.settings, report)
    for source in inputs.sources.values():
        if not source.is_as_read:
            warn(
                f"{source.path} was replaced or removed since it was read; results are of what was read",
                job.quiet,
            )
    return write_results(
        est,
        job.settings,
        folder,
        job.output(level),
        inputs=inputs.by_role,
        command=sys.argv,
        voxel_size=job.reading.voxel_size,
        progress=report,
    )


def summarise(written: Written, job: Job) -> None:
    """Print what was found and where it is."""
    name = Path(written.record["inputs"]["map"]["path"]).name
    from occupy.report.record import number_lines

    notices = [Notice(n["code"], n["text"]) for n in written.record["notices"]]
    for notice in (each for each in notices if each.doubtful):
        # Notices about the file begin with its name.
        warn(notice.text if notice.text.startswith(name) else f"{name}: {notice.text}", job.quiet)
    if job.quiet:
        return
    say(name)
    for notice in (each for each in notices if not each.doubtful):
        say(f"  {notice.text}")
    for line in number_lines(written.record["numbers"]):
        say("  " + line)
    if written.removed:
        say(f"  removed, of an earlier run: {', '.join(written.removed)}")
    for product, file in written.files.items():
        if product == "report" or file.endswith((".png", ".pdf", ".html")):
            say(f"  {product.replace('_', ' '):<24}{written.folder / file}")
    say(f"  look at it with         chimerax {written.folder / written.files['chimerax']}")


def _already_done(path: Path, folder: Path, job: Job, level: float | None) -> bool:
    """Tell whether a folder holds the complete results of the same files with the same settings.

    Every file of theirs must be as it was written. Says why not where only that is missing.
    """
    from occupy.io.atomic import remove_leftovers
    from occupy.io.checksum import sha256_of
    from occupy.io.mrc import map_stem
    from occupy.report.contents import why_not_vouched
    from occupy.report.record import read_record
    from occupy.report.results import recorded_options

    remove_leftovers(folder)
    try:
        record = read_record(folder / f"{map_stem(path)}_occupy.json")
        asked = record["settings_asked"], record["options"]
        options = recorded_options(job.output(level), job.reading.voxel_size)
        if asked != (asdict(job.settings), options):
            return False
        used = {role: about["sha256"] for role, about in record["inputs"].items()}
        files = job.files(path).by_role(job.settings)
        if used != {role: sha256_of(file) for role, file in files.items()}:
            return False
    except (OccupyError, OSError):
        return False
    reason = why_not_vouched(folder, record)
    if reason is not None:
        say(f"{path}: estimated again, as in {folder} {reason}", job.quiet)
    return reason is None


@command("fetch", app, examples=("occupy fetch EMD-3061 --half-maps -o maps",))
def _fetch(
    entries: Annotated[list[str], typer.Argument(metavar="ENTRY...", help="EMDB entries, such as EMD-3061.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Folder to download to [default: the cache].", show_default=False
        ),
    ] = None,
    half_maps: Annotated[
        bool, typer.Option("--half-maps", help="Download half-maps too.", show_default=False)
    ] = False,
    run: Run,
) -> None:
    """Download maps from EMDB."""
    from occupy.io.emdb import fetch

    for name in entries:
        with progress(name, run.quiet, unit="B") as report:
            entry = fetch(
                name,
                output,
                half_maps=half_maps,
                progress=lambda label, done, total, report=report: report(label, done, total or 0),  # type: ignore[misc]
            )
        about = f", contour level {entry.contour_level:g}" if entry.contour_level is not None else ""
        about += f", {entry.resolution:g} Å" if entry.resolution is not None else ""
        say(f"{entry.entry_id}: {entry.title or 'no title'}{about}", run.quiet)
        say(f"  {entry.map_path}", run.quiet)
        for path in entry.half_map_paths:
            say(f"  {path}", run.quiet)
        if half_maps and not entry.half_map_paths:
            say("  (the entry has no half-maps)", run.quiet)


@command(
    "simulate",
    app,
    examples=(
        "occupy simulate model.cif --occupancy A=0.5,B=0.8 --resolution 4",
        "occupy simulate model.cif --classes 4 --blocks 3 --class3d --seed 1",
    ),
)
def _simulate(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="Atomic model (.pdb, .cif, .gz), or several that make one complex; demo is the bundled one.",
        ),
    ],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path(
        "occupy-simulated"
    ),
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Start of file names [default: the model's].",
            show_default=False,
            rich_help_panel="Map",
        ),
    ] = None,
    imaging: ImagingWithHalves,
    truth: Truth,
    mixture: ClassMixture,
    processing: Processing,
    run: Run,
) -> None:
    """Make maps with known occupancies from an atomic model.

    The truth is written beside them.
    """
    from occupy.report.simulated import write_request
    from occupy.requests import SimulationRequest
    from occupy.simulation.request import simulate_request

    asked = SimulationRequest(tuple(models), name, imaging, truth, mixture, processing)
    files = write_request(output, asked, simulate_request(asked))
    for file in files.values():
        say(str(output / file), run.quiet)


@command("demo", app)
def _demo(
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path(
        "occupy-demo"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    run: Run,
) -> None:
    """Run on a simulated map of known occupancies.

    No input and no network needed.
    """
    quiet = run.quiet
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
        written = run_job(job.files(path).open(settings), folder, job, None, report)
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
