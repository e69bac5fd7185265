"""Damage everything that the program reads, and see that it ends in a result or in one clear line.

    python tools/fuzz.py [TARGET...] [--minutes 30] [--seed 1] [--rounds N] [--keep FOLDER]

Real small files are made, then damaged by a seeded generator: every case can be repeated by its target, seed
and number (``--only-case``). Only the program's own errors may come out: no other exception, no warning, no
more than ten seconds, no more than four gigabytes. Requests go to the viewer within this process. Runs
are ended by signals at random moments; what lies there afterwards must be what a whole run writes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

HOME = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HOME / "tests"), str(HOME)]

from occupy.errors import OccupyError  # noqa: E402
from tools import fuzz_files as files  # noqa: E402
from tools.fuzz_files import Files, Rng  # noqa: E402
from tools.fuzz_runs import Runs  # noqa: E402
from tools.fuzz_viewer import Requests  # noqa: E402

SECONDS = 10
MEMORY = 4 << 30
ROUNDS = 40

Target = Callable[[Rng, Path], None]
OFTEN = {
    "map": 8,
    "star": 6,
    "cs": 8,
    "pickle": 12,
    "yaml": 12,
    "model": 8,
    "pdb": 8,
    "request": 20,
    "estimate": 1,
}
"""Cases of a target in each round; others have one. Signals come in every fifth round."""


def targets(folder: Path) -> dict[str, Target]:
    """Return what is damaged, by name; files that are needed are made in the folder."""
    from occupy.io.particles import read_particles
    from occupy.io.sets import find_set
    from occupy.io.tables import ChainTable, read_selections

    record, set_record = files.record_files(folder)
    mmcif, pdb = files.model_files()
    table = b"chain,occupancy,bfactor,block\nA,0.5,10,core\nB,1,,core\nC,0.25,5,x\n"
    return {
        "map": Files(files.map_files(), "m.map", files.read_any_map),
        "packed": Files(files.map_files()[-1:], "m.mrc.gz", files.read_any_map),
        "estimate": Files(files.map_files(), "m.mrc", files.estimate_any_map),
        "star": Files(files.star_files(), "p.star", read_particles),
        "job": Files(files.job_files(folder), "run_it001_model.star", lambda path: find_set([path])),
        "cs": Files(files.cs_files(), "p.cs", read_particles),
        "pickle": Files(files.pickle_files(), "labels.pkl", read_particles),
        "labels": Files([b"0\n1\n2\n1\n"], "labels.txt", read_particles),
        "yaml": Files(files.yaml_files(), "s.yaml", read_selections),
        "table": Files([table], "t.csv", ChainTable.read),
        "model": Files([mmcif], "m.cif", files.read_any_model),
        "pdb": Files([pdb], "m.pdb", files.read_any_model),
        "record": Files([record], "r.json", files.use_record(folder)),
        "set-record": Files([set_record], "occupy_set.json", files.read_any_set_record),
        "request": Requests(folder),
        "signal": Runs(folder),
    }


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after so many seconds."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def failure_of(target: Target, seed: Sequence[int], folder: Path, seconds: float) -> str | None:
    """Run one case; return what went wrong, or None."""
    try:
        with limited(seconds), warnings.catch_warnings():
            warnings.simplefilter("error")
            target(np.random.default_rng(seed), folder)
    except OccupyError as error:
        return None if str(error).strip() and "Traceback" not in str(error) else f"says {str(error)!r}"
    except Exception:
        return traceback.format_exc(limit=-4)
    return None


def main() -> int:
    """Run the rounds; print failures and a line per target; 1 where anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", help="by default all")
    parser.add_argument("--minutes", type=float, help="go on for so long, in place of --rounds")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-case", type=int, help="repeat one case of one target")
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    asked = parser.parse_args()
    os.environ["OCCUPY_EMDB_URL"] = "http://127.0.0.1:9"  # nothing is fetched
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with tempfile.TemporaryDirectory(prefix="occupy-fuzz-") as temporary:
        every = targets(Path(temporary))
        chosen = {name: every[name] for name in asked.targets or every}
        try:
            return Fuzzer(Path(temporary), asked.seed, asked.keep).run(
                chosen, asked.rounds, asked.minutes, asked.only_case
            )
        finally:
            for target in (every["request"], every["signal"]):
                target.close()  # type: ignore[attr-defined]


class Fuzzer:
    """Counts cases and failures."""

    def __init__(self, folder: Path, seed: int, keep: Path | None) -> None:
        self.folder, self.seed, self.keep = folder, seed, keep
        self.count: dict[str, int] = {}
        self.failed: dict[str, int] = {}

    def run(self, chosen: dict[str, Target], rounds: int, minutes: float | None, only: int | None) -> int:
        """Run rounds of all targets until they are done, or the time is up."""
        end = None if minutes is None else time.monotonic() + 60 * minutes
        if only is not None:
            chosen, rounds, end = dict(list(chosen.items())[:1]), 1, None
        turn = 0
        while turn < rounds if end is None else time.monotonic() < end:
            for name, target in chosen.items():
                often = OFTEN.get(name, 1) if name != "signal" or len(chosen) == 1 else int(turn % 5 == 0)
                for _ in range(often if only is None else 1):
                    self.case(name, target, self.count.get(name, 0) if only is None else only)
            turn += 1
        for name in chosen:
            print(f"{name:12} {self.count.get(name, 0):7} cases, {self.failed.get(name, 0)} failures")
        return int(bool(self.failed))

    def case(self, name: str, target: Target, number: int) -> None:
        """Run one case in a folder of its own."""
        self.count[name] = self.count.get(name, 0) + 1
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as place:
            seed = [self.seed, zlib.crc32(name.encode()), number]
            wrong = failure_of(target, seed, Path(place), SECONDS * (6 if name == "signal" else 1))
            if wrong is None:
                return
            self.failed[name] = self.failed.get(name, 0) + 1
            print(f"FAILED: {name} --seed {self.seed} --only-case {number}\n{wrong}", flush=True)
            for path in Path(place).iterdir() if self.keep is not None else ():
                if path.is_file() and self.keep is not None:
                    self.keep.mkdir(parents=True, exist_ok=True)
                    (self.keep / f"{name}_{number}_{path.name}").write_bytes(path.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
