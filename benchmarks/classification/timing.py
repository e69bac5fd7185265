"""Time of a call beyond RELION's own program: ``python -m benchmarks.classification.timing JOB``.

JOB is the folder of a Class3D run with occupy in its loop; every call noted the seconds it took after
RELION's program was done, reading and writing included. ``--simulate 128`` makes a call of that box instead,
of four classes with all shells in use, and times ten repeats: passed and processor time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from occupy.io.loop import FOLDER, read_calls
from occupy.io.mrc import write_map
from occupy.relion.hook import _improve
from occupy.relion.options import HookOptions
from occupy.volume import Volume

CLASSES = 4


def noted(job: Path) -> list[float]:
    """Return the seconds that the calls of a job noted."""
    return [call["seconds"] for call in read_calls(job / FOLDER) if call.get("state") == "separated"]


def simulated(box: int, padding: int, repeats: int) -> list[tuple[float, float]]:
    """Time calls on noise of which every shell counts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _model(folder)
        for number in range(1, CLASSES + 1):
            _improve(_call(folder, 1, number, box, padding), HookOptions())
        seconds = []
        for _ in range(repeats):
            star = _call(folder, 2, 1, box, padding)
            began = time.perf_counter(), time.process_time()
            _improve(star, HookOptions())
            seconds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return seconds


def _model(folder: Path) -> None:
    groups = "data_model_groups\n\nloop_\n_rlnGroupNumber\n_rlnGroupNrParticles\n1 4000\n"
    text = f"data_model_general\n\n_rlnPixelSize 2.75\n_rlnNrClasses {CLASSES}\n\n{groups}"
    (folder / "run_it000_model.star").write_text(text, encoding="utf-8")
    text = "data_optimiser_general\n\n_rlnParticleDiameter 290\n_rlnNumberOfIterations 25\n"
    (folder / "run_it000_optimiser.star").write_text(text, encoding="utf-8")


def _call(folder: Path, iteration: int, number: int, box: int, padding: int) -> Path:
    stem = folder / f"run_it{iteration:03d}_class{number:03d}_external_reconstruct"
    n = box * padding
    rng = np.random.default_rng(number + 10 * iteration)
    weight = np.full((n, n, n // 2 + 1), 100, dtype=np.float32)
    for name in ("data_real", "data_imag", "weight"):
        write_map(f"{stem}_{name}.mrc", Volume.from_array(weight, 1.0))
    write_map(f"{stem}.mrc", Volume.from_array(rng.normal(size=(box,) * 3).astype(np.float32), 1.0))
    rows = "".join(f"{i} 1.0 0.0\n" for i in range(box // 2 + 1))
    star = Path(f"{stem}.star")
    star.write_text(
        f"data_external_reconstruct_general\n\n_rlnExtReconsWeight {stem}_weight.mrc\n"
        f"_rlnExtReconsDataReal {stem}_data_real.mrc\n_rlnExtReconsDataImag {stem}_data_imag.mrc\n"
        f"_rlnExtReconsResult {stem}.mrc\n_rlnTau2FudgeFactor 4.0\n_rlnPaddingFactor {padding}\n"
        f"_rlnOriginalImageSize {box}\n_rlnCurrentImageSize {box}\n\n"
        "data_external_reconstruct_tau2\n\nloop_\n_rlnSpectralIndex\n_rlnReferenceTau2\n_rlnGoldStandardFsc\n"
        + rows,
        encoding="utf-8",
    )
    return star


def main() -> int:
    """Print median and largest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path, nargs="?")
    parser.add_argument("--simulate", type=int, metavar="BOX")
    parser.add_argument("--padding", type=int, default=1)
    options = parser.parse_args()
    if options.simulate:
        both = simulated(options.simulate, options.padding, 10)
        seconds = [passed for passed, _ in both]
        print(f"processor time: median {statistics.median(busy for _, busy in both):.2f} s")
    elif options.job:
        seconds = noted(options.job)
    else:
        parser.error("a job's folder or --simulate BOX is needed")
    print(f"{len(seconds)} calls: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
