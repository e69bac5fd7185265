"""`occupy-relion-reconstruct`: the program RELION calls for every class and iteration.

RELION's own program makes the map first. Whatever goes wrong after that leaves RELION's map as it is, says
so in one line, and ends well: a classification never stops because of us.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from occupy.relion.exchange import Exchange
    from occupy.relion.options import Options

FOLDER = "occupy_relion"
"""Folder beside a job's files for all that is ours."""

USAGE = """usage: occupy-relion-reconstruct run_itNNN_classNNN_external_reconstruct.star

RELION calls this program; see `occupy relion class3d-command --help` for how to tell it to."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Reconstruct one class, and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # RELION runs its own threads beside us, and idle BLAS threads burn time spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)  # noqa: T201
        sys.exit(0 if words else 2)
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """Run RELION's program and then ours; return the exit code."""
    star = Path(words[0])
    options, problem = _options(star)
    code = reconstruct(words, options)
    if code:
        return code
    try:
        if problem is not None:
            raise problem
        say(improve(star, options))
    except Exception as error:
        _give_up(star, error)
    else:
        report_at_the_end(star)
    return 0


def report_at_the_end(star: Path) -> None:
    """Write table and pictures once the last class of the last iteration is done, and print warnings."""
    from occupy.relion.exchange import read_exchange
    from occupy.relion.running import read_job

    try:
        call = read_exchange(star)
        iterations = read_job(call).iterations
        if iterations is None or call.iteration < iterations:
            return
        from occupy.relion.runreport import is_last, write_report

        if is_last(call):
            paths, notices = write_report(star.parent)
            for notice in notices:
                say(f"warning: {notice.text}")
            say(f"wrote {', '.join(map(str, paths))}")
    except Exception as error:
        say(f"no report: {' '.join(f'{type(error).__name__}: {error}'.split())}")


def _options(star: Path) -> tuple[Any, Exception | None]:
    """Read the user's overrides; wrong ones must not keep RELION from its map."""
    from occupy.relion.options import Options, read_options

    try:
        return read_options(star.parent), None
    except Exception as error:
        executable = os.environ.get("OCCUPY_RELION_EXECUTABLE") or Options.executable
        return Options(executable=executable), error


def reconstruct(words: Sequence[str], options: Options) -> int:
    """Call RELION's own program with the same arguments; return its exit code."""
    # Without this it would call us again where RELION's variable names us.
    environment = {k: v for k, v in os.environ.items() if k != "RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE"}
    try:
        done = subprocess.run(
            [options.executable, *words], env=environment, timeout=options.seconds or None, check=False
        )
    except OSError as error:
        say(
            f"{options.executable} cannot be run ({error.strerror}); set OCCUPY_RELION_EXECUTABLE to its path"
        )
        return 127
    except subprocess.TimeoutExpired:
        say(f"{options.executable} took more than {options.seconds:g} s and was stopped")
        return 124
    return done.returncode


def improve(star: Path, options: Options) -> str:
    """Bring this class together with the others and rewrite its map; return a line for the log."""
    from occupy.relion.exchange import read_exchange

    began = time.perf_counter()
    if os.environ.get("OCCUPY_RELION_TEST_CRASH"):
        raise RuntimeError("crash on request")
    call = read_exchange(star)
    where = f"iteration {call.iteration}, class {call.number}"
    if call.shells < 3:
        return f"{where}: too little resolution yet; RELION's map is used"
    line, record = _improve_call(call, options, where)
    record["seconds"] = round(time.perf_counter() - began, 3)
    from occupy import __version__
    from occupy.relion.runrecord import note

    note(star.parent / FOLDER, call, record | {"occupy": __version__})
    return line


def _improve_call(call: Exchange, options: Options, where: str) -> tuple[str, dict[str, Any]]:
    import numpy as np

    from occupy.io.mrc import read_map, write_map
    from occupy.relion.classes import reduce_map, separate
    from occupy.relion.exchange import read_weights
    from occupy.relion.running import read_job
    from occupy.relion.state import Stored, previous, store

    job = read_job(call)
    pixel_size = options.pixel_size or job.pixel_size
    weights = read_weights(call)
    volume = read_map(call.result, voxel_size=pixel_size or 1.0)
    if volume.shape != (call.box,) * 3:
        raise ValueError(f"{call.result} has {volume.shape} voxels, not {call.box} a side")
    if not np.isfinite(volume.data).all() or not weights.weight.sum() > 0 or not volume.data.any():
        return f"{where}: empty class; RELION's map is used", {"state": "empty"}
    mine = reduce_map(volume.data, weights, call)
    folder = call.star.parent / FOLDER
    found = previous(folder, call.half, call.iteration, call.box)
    store(folder, call.half, Stored(call.iteration, call.number, mine, call.box))
    if options.off:
        return f"{where}: switched off; RELION's map is used", {"state": "off"}
    if len(found) < 2:
        return f"{where}: no earlier iteration of several classes; RELION's map is used", {"state": "alone"}
    if not pixel_size:
        return (
            f"{where}: pixel size unknown; set OCCUPY_RELION_PIXEL_SIZE; RELION's map is used",
            {"state": "no pixel size"},
        )
    result = separate(mine, found, call, job, options)
    if not np.isfinite(result.map).all():
        raise ValueError("the result has values that are not finite")
    write_map(call.result, volume.with_data(result.map), "shared and own part of a class")
    own = result.own
    record = {
        "state": "separated",
        "classes": result.classes,
        "particles": round(result.particles, 1),
        "own": round(result.share_of_map, 5),
        "kept": round(own.share, 4),
        "strength": round(own.strength, 3),
        "freedom": round(own.freedom, 1),
        "energy": round(own.energy, 1),
        "weights": [round(w, 4) for w in own.weights],
    }
    return f"{where}: own part {100 * result.share_of_map:.2g} % of the shared one", record


def _give_up(star: Path, error: Exception) -> None:
    """Say in one line why RELION's map stays as it is."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    say(f"{star.name}: {reason}; RELION's own map is used")


def say(text: str) -> None:
    """Print a line where RELION prints its own."""
    print(f"occupy: {text}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
