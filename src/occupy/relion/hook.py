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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from occupy.io.loop import ReconstructionCall
    from occupy.relion.classes import StoredClass
    from occupy.relion.options import HookOptions, RunningJob
    from occupy.volume import Volume

_USAGE = """usage: occupy-relion-reconstruct run_itNNN_classNNN_external_reconstruct.star

RELION calls this program; see `occupy relion class3d-command --help` for how to tell it to."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Reconstruct one class, and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # RELION runs its own threads beside us, and idle BLAS threads burn time spinning.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _open_streams()
    if not words or words[0] in ("-h", "--help"):
        _say(_USAGE, prefix="")
        sys.exit(0 if words else 2)
    sys.exit(_run_hook(words))


def _open_streams() -> None:
    """Open the standard streams that are closed: else the next file opened, a map, would be taken for one."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _run_hook(words: Sequence[str]) -> int:
    """Run RELION's program and then ours; return the exit code."""
    star = Path(words[0])
    options, problem = _options(star)
    _withdraw(star)
    code = _reconstruct(words, options)
    if code:
        return code
    try:
        if problem is not None:
            raise problem
        _say(_improve(star, options))
    except Exception as error:
        _give_up(star, error)
    _report_at_the_end(star)
    return 0


def _withdraw(star: Path) -> None:
    """Remove what an earlier run of the same iteration left: it would be taken for this one's."""
    with suppress(Exception):
        from occupy.io.loop import unregularised_name

        unregularised_name(star).unlink(missing_ok=True)


def _report_at_the_end(star: Path) -> None:
    """Write table and pictures once the last class of the last iteration is done, and print warnings."""
    from occupy.io.loop import ReconstructionCall
    from occupy.relion.options import RunningJob

    try:
        call = ReconstructionCall.read(star)
        iterations = RunningJob.of(call).iterations
        if iterations is None or call.iteration < iterations:
            return
        from occupy.relion.runreport import is_last, write_run_report

        if is_last(call):
            paths, notices = write_run_report(star.parent)
            for notice in notices:
                _say(f"warning: {notice.text}")
            _say(f"wrote {', '.join(map(str, paths))}")
    except Exception as error:
        _say(f"no report: {_one_line(error)}")


def _options(star: Path) -> tuple[Any, Exception | None]:
    """Read the user's overrides; wrong ones must not keep RELION from its map."""
    from occupy.relion.options import HookOptions

    try:
        return HookOptions.read(star.parent), None
    except Exception as error:
        executable = os.environ.get("OCCUPY_RELION_EXECUTABLE") or HookOptions.executable
        return HookOptions(executable=executable), error


def _reconstruct(words: Sequence[str], options: HookOptions) -> int:
    """Call RELION's own program with the same arguments; return its exit code."""
    # Without this it would call us again where RELION's variable names us.
    environment = {k: v for k, v in os.environ.items() if k != "RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE"}
    try:
        # A pipe that nobody reads must not end RELION's program either: it goes on ignoring SIGPIPE as we do.
        done = subprocess.run(
            [options.executable, *words],
            env=environment,
            timeout=options.seconds or None,
            check=False,
            restore_signals=False,
        )
    except OSError as error:
        _say(
            f"{options.executable} cannot be run ({error.strerror}); set OCCUPY_RELION_EXECUTABLE to its path"
        )
        return 127
    except subprocess.TimeoutExpired:
        _say(f"{options.executable} took more than {options.seconds:g} s and was stopped")
        return 124
    return done.returncode


@dataclass(frozen=True)
class _Outcome:
    """What came of a call.

    Attributes
    ----------
    line : str
        For the log.
    record : dict
        For the record of the job.
    volume : Volume or None
        The map RELION is to get; None leaves its own.
    """

    line: str
    record: dict[str, Any]
    volume: Volume | None = None


def _improve(star: Path, options: HookOptions) -> str:
    """Bring this class together with the others and rewrite its map; return a line for the log.

    The map takes the place of RELION's last of all: what fails before leaves RELION's.
    """
    from occupy import __version__
    from occupy.io.atomic import atomic_file
    from occupy.io.loop import ReconstructionCall
    from occupy.io.mrc import write_map

    began = time.perf_counter()
    call = ReconstructionCall.read(star)
    where = f"iteration {call.iteration}, class {call.number}"
    if call.shells < 3:
        return f"{where}: too little resolution yet; RELION's map is used"
    outcome = _outcome(call, options)
    record = outcome.record | {"seconds": round(time.perf_counter() - began, 3), "occupy": __version__}
    if outcome.volume is None:
        call.record(record)
    else:
        with atomic_file(call.result) as part:
            file = write_map(part, outcome.volume, "shared and own part of a class", checksum=True)
            assert file is not None
            # What tells this map from that of a later run without us.
            record["map"] = {"file": call.result.name} | file.about()
            call.record(record)
    return f"{where}: {outcome.line}"


def _outcome(call: ReconstructionCall, options: HookOptions) -> _Outcome:
    """Read a call, keep the class for later ones, and compare it with the others."""
    import numpy as np

    from occupy.io.loop import FOLDER
    from occupy.io.mrc import read_map
    from occupy.relion.classes import StoredClass, earlier_classes, read_weights, reduce_map, store_class
    from occupy.relion.options import RunningJob

    job = RunningJob.of(call)
    pixel_size = options.pixel_size or job.pixel_size
    weights = read_weights(call)
    volume = read_map(call.result, voxel_size=pixel_size or 1.0)
    if volume.shape != (call.box,) * 3:
        raise ValueError(f"{call.result} has {volume.shape} voxels, not {call.box} a side")
    if not np.isfinite(volume.data).all() or not weights.weight.sum() > 0 or not volume.data.any():
        return _Outcome("empty class; RELION's map is used", {"state": "empty"})
    mine = StoredClass(call.iteration, call.number, reduce_map(volume.data, weights, call), call.box)
    folder = call.star.parent / FOLDER
    found = earlier_classes(folder, call.half, call.iteration, call.box)
    store_class(folder, call.half, mine)
    if options.off:
        return _Outcome("switched off; RELION's map is used", {"state": "off"})
    if len(found) < 2:
        return _Outcome("no earlier iteration of several classes; RELION's map is used", {"state": "alone"})
    if not pixel_size:
        text = "pixel size unknown; set OCCUPY_RELION_PIXEL_SIZE; RELION's map is used"
        return _Outcome(text, {"state": "no pixel size"})
    return _separated(volume, mine, found, call, job, options)


def _separated(
    volume: Volume,
    mine: StoredClass,
    found: tuple[StoredClass, ...],
    call: ReconstructionCall,
    job: RunningJob,
    options: HookOptions,
) -> _Outcome:
    """Return the class as the shared part plus its own, unless that is not RELION's map less noise."""
    from occupy.relion.classes import separate

    result = separate(mine.map, found, call, job, options)
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
        "agreement": round(result.agreement, 4),
        "amplitude": round(result.amplitude, 4),
    }
    if not result.plausible:
        text = (
            f"the result is unlike RELION's map (correlation {result.agreement:.2f}, amplitude "
            f"{result.amplitude:.2g}); RELION's map is used"
        )
        return _Outcome(text, record | {"state": "refused"})
    _keep_unregularised(call, volume.voxel_size[0])
    line = f"own part {100 * result.share_of_map:.2g} % of the shared one"
    return _Outcome(line, record, volume.with_data(result.map))


def _keep_unregularised(call: ReconstructionCall, pixel_size: float) -> None:
    """Write the map in which occupancy can be read, and remove those of iterations long past.

    Done at every call: which is the last cannot be known where several run at once or the job is continued.
    """
    from occupy.io.loop import unregularised_name
    from occupy.relion.separation import LOOP

    try:
        call.write_unregularised(pixel_size)
    except Exception as error:
        _say(f"no unregularised map: {_one_line(error)}")
    path, before = unregularised_name(call.star), max(call.iteration - LOOP.kept_iterations, 0)
    old = path.with_name(path.name.replace(f"_it{call.iteration:03d}_", f"_it{before:03d}_"))
    if old != path:
        with suppress(OSError):
            old.unlink(missing_ok=True)


def _give_up(star: Path, error: Exception) -> None:
    """Say in one line why RELION's map stays as it is, and note it where that is possible."""
    _say(f"{star.name}: {_one_line(error)}; RELION's own map is used")
    with suppress(Exception):
        from occupy.io.loop import ReconstructionCall

        ReconstructionCall.read(star).record({"state": "failed", "reason": _one_line(error)})


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _say(text: str, prefix: str = "occupy: ") -> None:
    """Print a line where RELION prints its own; where that is not possible any more, print nothing."""
    try:
        print(f"{prefix}{text}", flush=True)  # noqa: T201
    except (OSError, ValueError):
        # What stays in the buffer would fail again at the end, and turn success into an error for RELION.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    main()
