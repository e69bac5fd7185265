"""Accuracy on maps whose truth is known.

    python -m benchmarks.accuracy --folder FOLDER [--only tuning] [--reference-python PYTHON]

Makes the collection (once; maps are kept in FOLDER), runs the published estimator (OccuPy 0.1.13, in an
environment of its own, at both its tiles) and ours, and writes tables and pictures to FOLDER/results.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path

import gemmi

from benchmarks.accuracy import collection, pictures, published, tables
from benchmarks.accuracy.estimators import DEFAULT, ESTIMATORS
from benchmarks.accuracy.measure import Result, run_all, write_units
from benchmarks.accuracy.samples import Sample, relion_sets, simulated


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("OCCUPY_SHARED_DATA", beside)))
    parser.add_argument("--folder", type=Path, help="keep maps, the reference and results here")
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", help="tuning, reporting, relion_50s, or maps by name (7pbl_*)"
    )
    parser.add_argument("--estimators", nargs="*", metavar="NAME", help=f"of {', '.join(ESTIMATORS)}")
    parser.add_argument("--no-reference", action="store_true", help="without the published estimator")
    parser.add_argument("--reference-python", type=Path, help="a Python that has occupy==0.1.13 installed")
    parser.add_argument("--smoke", action="store_true", help="one small map, without the reference")
    return parser.parse_args(arguments)


def wanted(name: str, half: str, only: Sequence[str] | None) -> bool:
    """Tell whether a sample was asked for."""
    return not only or any(half == pattern or fnmatch(name, pattern) for pattern in only)


def samples_of(a: argparse.Namespace, folder: Path) -> list[Callable[[], Sample]]:
    """Return functions that make the samples asked for; say what is missing."""
    data = collection.unpacked(a.data, folder / "data") if a.data.exists() and not a.smoke else None
    structure: Callable[[str], gemmi.Structure] = cache(partial(collection.structure_of, data=data))
    if a.smoke:
        return [partial(simulated, collection.SMOKE, folder / "maps", structure, "tuning")]
    missing = collection.missing_models(data)
    for model, file in missing.items():
        print(f"left out: {model}, for want of {file} in {a.data}")
    made: list[Callable[[], Sample]] = [
        partial(simulated, case, folder / "maps", structure)
        for case in collection.CASES
        if case.model not in missing and wanted(case.name, case.half, a.only)
    ]
    if data is None or not (data / "relion_50s").is_dir():
        print(f"left out: the RELION sets, for want of relion_50s in {a.data}")
        return made
    found = [s for s in relion_sets(data) if wanted(s.name, s.half, a.only)]
    return made + [lambda s=s: s for s in found]


@contextmanager
def without_notices() -> Iterator[None]:
    """Keep the library from saying what is doubtful about maps: that is not the question here."""
    log = logging.getLogger("occupy")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def write_results(folder: Path, results: Sequence[Result]) -> None:
    """Write tables and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    write_units(folder / "units.csv", results)
    tables.write_numbers(folder / "accuracy.csv", results)
    (folder / "accuracy.md").write_text(tables.markdown(results))
    pictures.draw_all(folder, results)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for; exit 1 where there was nothing to run."""
    a = parse(arguments)
    unknown = set(a.estimators or ()) - set(ESTIMATORS)
    if unknown:
        sys.exit(f"unknown estimators: {', '.join(sorted(unknown))}; there are {', '.join(ESTIMATORS)}")
    chosen = {name: ESTIMATORS[name] for name in a.estimators or ([DEFAULT] if a.smoke else ESTIMATORS)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = samples_of(a, folder)
        if not made:
            sys.exit("nothing to measure")
        start = None if a.no_reference or a.smoke else published.start_of(a.reference_python, folder)
        with without_notices():
            results = run_all(made, chosen, start, folder / "published", lambda line: print(line, flush=True))
        write_results(folder / "results", results)
        print()
        print(tables.markdown(results))
        if a.folder:
            print(f"tables and pictures: {folder / 'results'}")


if __name__ == "__main__":
    main()
