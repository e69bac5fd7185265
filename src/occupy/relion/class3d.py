"""The command line of a Class3D job with occupy in its loop."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from occupy.errors import InputError
from occupy.settings import option

VARIABLE = "RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE"
PROGRAM = "occupy-relion-reconstruct"


@dataclass(frozen=True)
class Class3D:
    """What a Class3D job needs to be told; the command line reads the same descriptions."""

    particles: str = option(..., "STAR file with poses.", argument=True, metavar="PARTICLES")
    reference: str = option(..., "Map to begin with.", argument=True, metavar="REFERENCE")
    output: str = option("Class3D/occupy/run", "Root of RELION's output names.", flags=("-o", "--output"))
    diameter: float = option(200.0, "Of the particle (Å).")
    classes: int = option(4, "Number of classes.", flags=("--classes", "-K"))
    iterations: int = option(25, "Number of iterations.")
    fudge: float = option(4.0, "RELION's regularisation parameter T.")
    initial: float = option(40.0, "Low-pass of the reference (Å).")
    limit: float | None = option(None, "Finest resolution of the expectation step (Å).")
    align: bool = option(False, "Search all orientations too.")
    local: float | None = option(None, "Search near the given orientations, of this standard deviation (°).")
    processes: int = option(1, "MPI processes.")
    threads: int = option(4, "Threads of each process.")
    gpu: str | None = option(None, "GPUs, as RELION takes them.")
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """Several runs of one job, to see which classes come back."""

    seeds: int = option(1, "Runs with other random seeds; 3 tell which classes are real.", min=1)
    ladder: str | None = option(
        None, "Numbers of classes to try, in place of -K: 2,3,4,6.", metavar="K,K,..."
    )

    def numbers(self, job: Class3D) -> tuple[int, ...]:
        """Return the numbers of classes, each once, in order; InputError where they are none."""
        if self.ladder is None:
            return (job.classes,)
        try:
            found = sorted({int(word) for word in self.ladder.replace(",", " ").split()})
        except ValueError:
            found = []
        if not found or found[0] < 1:
            raise InputError(f"--ladder {self.ladder}: give numbers of classes, such as 2,3,4,6")
        return tuple(found)


def _class3d_words(job: Class3D) -> list[str]:
    """Return RELION's command line as words."""
    _check(job)
    program = ["relion_refine"]
    if job.processes > 1:
        program = ["mpirun", "-n", str(job.processes), "relion_refine_mpi"]
    words = [
        *program, "--i", job.particles, "--o", job.output, "--ref", job.reference, "--ctf",
        "--ini_high", f"{job.initial:g}", "--K", str(job.classes), "--iter", str(job.iterations),
        "--tau2_fudge", f"{job.fudge:g}",
        "--particle_diameter", f"{job.diameter:g}", "--flatten_solvent", "--zero_mask", "--norm", "--scale",
        "--pad", "1", "--j", str(job.threads), "--pool", "30", "--dont_combine_weights_via_disc",
        "--external_reconstruct",
    ]  # fmt: skip
    near = f"--healpix_order 3 --offset_range 2 --offset_step 1 --sigma_ang {job.local}"
    search = near if job.local else "--healpix_order 2 --offset_range 5 --offset_step 2"
    words += ["--oversampling", "1", *search.split()] if job.align or job.local else ["--skip_align"]
    words += ["--strict_highres_exp", f"{job.limit:g}"] if job.limit else []
    words += ["--gpu", job.gpu] if job.gpu is not None else []
    return [*words, *job.extra]


def _check(job: Class3D) -> None:
    for name in ("diameter", "fudge", "initial", "limit", "local"):
        if (value := getattr(job, name)) is not None and not value > 0:
            raise InputError(f"{name} must be above 0, not {value}")
    for name in ("classes", "iterations", "processes", "threads"):
        if getattr(job, name) < 1:
            raise InputError(f"{name} must be 1 or more, not {getattr(job, name)}")


def guide(job: Class3D, program: str) -> str:
    """Return the command with how to use it: in a shell, in RELION's window, and for a scheduler."""
    line = shlex.join(_class3d_words(job))
    folder = job.output.rpartition("/")[0] or "."
    setting = f"export {VARIABLE}={shlex.quote(program)}"
    return f"""# In a shell, in RELION's project folder:
{setting}
mkdir -p {shlex.quote(folder)}
{line}

# In RELION's window: start RELION from a shell where the first line above was run, set up 3D classification
# as usual (Regularisation T {job.fudge:g}, K {job.classes}), and under Running, Additional arguments, write:
#   --external_reconstruct

# For a scheduler (Slurm), save as class3d.sh and `sbatch class3d.sh`:
#!/bin/bash
#SBATCH --ntasks={job.processes}
#SBATCH --cpus-per-task={job.threads}
{setting}
mkdir -p {shlex.quote(folder)}
{line}

# With MPI on several machines, the variable must reach all of them (OpenMPI: mpirun -x {VARIABLE}).
# Afterwards: occupy relion class3d-report {shlex.quote(folder)}
"""


def script(job: Class3D, experiment: Experiment, program: str) -> str:
    """Return a shell script that does all runs of an experiment, one after another, and reports on them.

    Runs that are complete are left as they are: a script that was stopped goes on where it was.
    """
    numbers = experiment.numbers(job)
    root = job.output.rpartition("/")[0] or "Class3D/occupy"
    words = _class3d_words(replace(job, output="@OUTPUT@", classes=1))
    at = words.index("--K")
    line = shlex.join([*words[:at], "--K", "@K@", *words[at + 2 :], "--random_seed", "@SEED@"])
    for name, variable in (("@OUTPUT@", '"$job/run"'), ("@K@", '"$k"'), ("@SEED@", '"$seed"')):
        line = line.replace(name, variable)
    jobs = [f"{root}_K{k}_seed{seed}" for k in numbers for seed in range(1, experiment.seeds + 1)]
    count = f"{experiment.seeds} seeds for K = {', '.join(map(str, numbers))}: {len(jobs)} jobs"
    return f"""#!/bin/sh
#SBATCH --ntasks={job.processes}
#SBATCH --cpus-per-task={job.threads}
# {count}, one after another. Save as class3d.sh; in RELION's
# project folder: sh class3d.sh (or sbatch class3d.sh). Jobs that are complete are not repeated.
set -e
export {VARIABLE}={shlex.quote(program)}
for k in {" ".join(map(str, numbers))}; do
  for seed in {" ".join(map(str, range(1, experiment.seeds + 1)))}; do
    job={shlex.quote(root)}_K${{k}}_seed${{seed}}
    if [ -f "$job/run_it{job.iterations:03d}_model.star" ]; then continue; fi
    mkdir -p "$job"
    {line}
  done
done
occupy relion class3d-report {" ".join(map(shlex.quote, jobs))}
"""
