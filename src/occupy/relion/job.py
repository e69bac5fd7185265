"""`occupy-relion-job`: the executable of a RELION External job.

It turns what RELION hands over into command lines of `occupy`, starts each as a process of its own, waits for
it and for RELION's wish to abort, lists the results as output nodes, and tells RELION how it ended, whatever
happens.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from occupy._version import __version__
from occupy.errors import InputError, OccupyError
from occupy.relion.job_files import Ending, ExitFiles, Guard, end_group, write_nodes

# -P: RELION starts us in the project's folder, whose files must not be taken for Python modules.
_PYTHON = (sys.executable, "-P", "-u", "-m")


class _EndedError(Exception):
    """A signal asks the job to end."""


class _AbortedError(Exception):
    """RELION asks the job to end."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the job and exit with 0 where it succeeded."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("--help", "-h"):
        _say(_USAGE)
        sys.exit(0)
    if words[0] == "--version":
        _say(f"occupy-relion-job {__version__}")
        sys.exit(0)
    sys.exit(_run_job(words))


def _run_job(words: Sequence[str]) -> int:
    """Run a job from RELION's command line; return the exit code."""
    where = _folders(words)
    if where is None:
        _complain("no --o FOLDER: this program is started by RELION's External job")
        return 1
    folder, control = where
    try:
        for path in {Path(folder), control}:
            path.mkdir(parents=True, exist_ok=True)
            ExitFiles(path).clear()
    except OSError as error:
        _complain(f"{folder}: cannot be written: {error.strerror or error}")
        return 1
    with suppress(OSError):  # of a full disk; the exit file is then tried directly
        ExitFiles(control).reserve()
    guard = Guard.start(control)
    _on_signals(_end_by_signal)
    ending: Ending = "FAILURE"
    try:
        ending = _run(words, guard)
    except _EndedError as error:
        _complain(f"ended by signal {error}")
    except OccupyError as error:
        _complain(" ".join(str(error).split()))
    except Exception as error:  # whatever it was, RELION has to be told
        _complain(f"{type(error).__name__}: {error}")
    finally:
        _on_signals(signal.SIG_IGN)
        ExitFiles(control).write(ending)
        guard.dismiss()
    return 0 if ending == "SUCCESS" else 1


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, handler)


def _end_by_signal(number: int, _: Any) -> None:
    raise _EndedError(signal.Signals(number).name)


def _run(words: Sequence[str], guard: Guard) -> Ending:
    request = _parse_job(words)
    started = time.time()
    try:
        for command in request.commands:
            code = _supervised((*_PYTHON, "occupy", *command), request, guard)
            if code:
                _complain(f"failed with code {code}; what went wrong stands above, or in run.err")
                return "FAILURE"
        # Pictures for the GUI are an extra: without them the results are still good.
        if _supervised((*_PYTHON, "occupy.relion.job_files", request.folder), request, guard):
            _complain("warning: logfile.pdf could not be written")
    except _AbortedError:
        _say("aborted, as RELION asked")
        return "ABORTED"
    names = write_nodes(request.folder, started)
    _say(f"output for other jobs: {', '.join(names) or 'none'}")
    return "SUCCESS"


def _supervised(command: Sequence[str], request: _JobRequest, guard: Guard) -> int:
    """Run a command and return its exit code; end it where RELION or a signal asks for that."""
    _say(f"occupy-relion-job {__version__}: {shlex.join(command[len(_PYTHON) :])}")
    early: list[int] = []
    # While the worker starts, a signal waits: raised in there it would leave a worker that nobody knows of.
    _on_signals(lambda number, _: early.append(number))
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _on_signals(_end_by_signal)
        if early:
            _end_by_signal(early[0], None)
        guard.tell(worker.pid)
        while (code := worker.poll()) is None:
            if any(ExitFiles(path).abort_wanted for path in (request.control, Path(request.folder))):
                raise _AbortedError
            with suppress(subprocess.TimeoutExpired):
                worker.wait(0.5)
        return code
    finally:
        _end(worker)
        guard.tell(0)


def _end(worker: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """End a worker that still runs: politely first, so that it removes its unfinished files."""
    if worker.poll() is not None:
        return
    end_group(worker.pid, signal.SIGTERM)
    until = time.monotonic() + seconds
    while worker.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    end_group(worker.pid, signal.SIGKILL)
    worker.wait()


def _say(text: str) -> None:
    with suppress(OSError):  # a full disk must not hide how the job ended
        print(text, flush=True)  # noqa: T201


def _complain(text: str) -> None:
    with suppress(OSError):
        print(f"occupy-relion-job: {text}", file=sys.stderr, flush=True)  # noqa: T201


_USAGE = """\
Usage: occupy-relion-job --o External/job012/ (--in_3dref MAP | --model_star STAR) [--NAME VALUE …]

The executable of a RELION External job. Started by RELION with:
  --o FOLDER             the job's folder
  --in_3dref MAP         one map: as `occupy estimate` (with --model or --masks as `occupy regions`)
  --in_mask MASK         part whose occupancy is wanted
  --in_parts STAR        particles to select from (with a condition, see below)
  --j N                  threads
  --pipeline_control DIR where RELION looks for the files that tell how the job ended
and with parameters of the job's tab "Params" (label and value):
  model_star STAR        a set: model.star, optimiser.star or folder of a Class3D job, as `occupy classes`
  classes yes            a set: the classes that the map of in_3dref is one of
  region, present, absent, where, certain
                         then select particles, as `occupy select`, into selected.star
                         (where: L17 ge 0.7 and CP le 0.3, as RELION hands > and < to the shell)
Any other label is an option of that command: model, by, masks, amplify, lowpass …"""

_Given = tuple[str, tuple[str, ...]]
_INPUTS = ("in_movies", "in_mics", "in_coords")
_OURS = ("o", "in_3dref", "in_mask", "in_parts", "j", "pipeline_control", "model_star", "classes", *_INPUTS)
_OF_SELECT = ("region", "present", "absent", "any", "where", "certain")
_OF_REGIONS = ("model", "masks", "by", "regions")
# They would write or look elsewhere than the job's folder says.
_REFUSED = ("output", "resume", "quiet", "debug")
# Options that are on unless their opposite is given, per command.
_ON = {
    "estimate": {"neighbours": "neighbours", "find_half_maps": "neighbours"},
    "classes": {"components": "components"},
}
_ON["regions"] = _ON["estimate"]
_NO = ("no", "false", "0", "none")
_YES = ("yes", "true", "1", "")


@dataclass(frozen=True)
class _JobRequest:
    """One job.

    Attributes
    ----------
    folder : str
        Where results go, as RELION says it, with a slash at the end.
    control : Path
        Where exit files go and where an abort is asked for.
    commands : tuple of tuple of str
        Command lines of `occupy`, without the program, in the order to run them.
    """

    folder: str
    control: Path
    commands: tuple[tuple[str, ...], ...]


def _pairs(arguments: Sequence[str]) -> list[_Given]:
    """Split a command line into names and the values that follow each (RELION quotes nothing)."""
    found: list[_Given] = []
    for word in arguments:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            found.append((name.replace("-", "_"), (value,) if equals else ()))
        elif found:
            name, values = found[-1]
            found[-1] = name, (*values, word)
        else:
            raise InputError(f"what is {word!r}? see occupy-relion-job --help")
    return found


def _folders(arguments: Sequence[str]) -> tuple[str, Path] | None:
    """Return the job's folder and that of its exit files, however wrong the rest may be; None without --o."""
    given: dict[str, str] = {}
    for place, word in enumerate(arguments[:-1]):
        if word in ("--o", "--pipeline_control"):
            given[word] = arguments[place + 1]
    if "--o" not in given:
        return None
    folder = given["--o"].rstrip("/") + "/"
    return folder, Path(given.get("--pipeline_control", folder))


def _parse_job(arguments: Sequence[str]) -> _JobRequest:
    """Read a command line as RELION makes it.

    Raises
    ------
    InputError
        Where the job's folder or its input is missing, or an option would write elsewhere.
    """
    where = _folders(arguments)
    if where is None:
        raise InputError("no --o FOLDER: this program is started by RELION's External job")
    folder, control = where
    given = _pairs(arguments)
    once = {name: " ".join(values) for name, values in given}
    _refuse(once, folder)
    source, is_set = _source(once)
    if source.startswith("-"):
        raise InputError(f"{source}: this is not a file")
    rest = [(name, values) for name, values in given if name not in (*_OURS, *_OF_SELECT)]
    commands = [_main_command(source, is_set, rest, once, folder)]
    wanted = [(name, values) for name, values in given if name in _OF_SELECT]
    if wanted:
        commands.append(_selection(source, is_set, once.get("in_parts"), folder, wanted))
    elif once.get("in_parts"):
        raise InputError("--in_parts: which particles? give the parameters region and present, or where")
    return _JobRequest(folder, control, tuple(commands))


def _refuse(once: Mapping[str, str], folder: str) -> None:
    refused = next((name for name in once if name in _REFUSED), None)
    if refused is not None:
        raise InputError(f"--{refused} is not for an External job; results go to {folder}")
    useless = next((name for name in _INPUTS if once.get(name)), None)
    if useless is not None:
        raise InputError(f"--{useless} is of no use here: give a map (in_3dref) or a model_star")


def _main_command(
    source: str, is_set: bool, rest: list[_Given], once: Mapping[str, str], folder: str
) -> tuple[str, ...]:
    """Return the command line that estimates, and what it reads."""
    of_regions = any(name in _OF_REGIONS for name, _ in rest)
    command = "classes" if is_set else "regions" if of_regions else "estimate"
    if once.get("in_mask"):
        rest = [*rest, ("target_mask" if command == "estimate" else "masks", (once["in_mask"],))]
    words = [command, source, "-o", folder, *_options(rest, _ON[command])]
    words += ["--plot"] if command == "estimate" and "plot" not in once else []
    words += ["--threads", once["j"]] if once.get("j") else []
    return tuple(words)


def _source(once: dict[str, str]) -> tuple[str, bool]:
    """Return the input and whether it is a set."""
    star, reference = once.get("model_star"), once.get("in_3dref")
    asked = once.get("classes", "no").lower()
    if asked not in _YES + _NO:
        raise InputError(f"classes should be yes or no, not {asked!r}")
    if star:
        return star, True
    if not reference:
        raise InputError("no input: give a map (in_3dref) or the parameter model_star")
    if "classes" in once and asked in _YES:
        return str(_model_of(Path(reference))), True
    return reference, False


def _model_of(reference: Path) -> Path:
    """Return the model.star beside a class map."""
    stem, found, _ = reference.name.rpartition("_class")
    model = reference.with_name(f"{stem}_model.star")
    if not found or not model.is_file():
        raise InputError(f"{reference}: beside it there is no {model.name}; give the parameter model_star")
    return model


def _options(given: Sequence[_Given], on: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Return options as `occupy` takes them: ``yes`` is a flag, ``no`` leaves it out, a list repeats it.

    What is ``on`` by default is switched off by ``no``.
    """
    words: list[str] = []
    for name, values in given:
        flag = "--" + name.replace("_", "-")
        switch = values[0].lower() if len(values) == 1 else ""
        if switch in ("no", "false"):
            words += [f"--no-{on[name]}"] if name in on else []
        elif switch in ("yes", "true") or not values:
            words.append(flag)
        elif name in ("region", "model", "masks", "compare"):
            words += [word for value in values for word in (flag, value)]
        else:
            words += [flag, " ".join(values)]
    return words


def _selection(
    source: str,
    is_set: bool,
    particles: str | None,
    folder: str,
    wanted: Sequence[_Given],
) -> tuple[str, ...]:
    if not is_set:
        raise InputError("particles are selected by classes: give the parameter model_star, or classes yes")
    if not particles:
        guess = source.removesuffix("_model.star") + "_data.star"
        if guess == source or not Path(guess).is_file():
            raise InputError("which particles? give in_parts (the *_data.star of the classification)")
        particles = guess
    words = ["select", folder, "--particles", particles, *_options(wanted)]
    return (*words, "-o", folder + "selected.star")


if __name__ == "__main__":
    main()
