"""What RELION's External job hands over, turned into command lines of `occupy`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from occupy.errors import InputError

USAGE = """Usage: occupy-relion-job --o External/job012/ (--in_3dref MAP | --model_star STAR) [--NAME VALUE …]

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

_INPUTS = ("in_movies", "in_mics", "in_coords")
_OURS = ("o", "in_3dref", "in_mask", "in_parts", "j", "pipeline_control", "model_star", "classes", *_INPUTS)
_OF_SELECT = ("region", "present", "absent", "any", "where", "certain")
_OF_REGIONS = ("model", "masks", "by", "regions")
# They would write or look elsewhere than the job's folder says.
_REFUSED = ("output", "resume", "quiet", "debug")
_NO = ("no", "false", "0", "none")
_YES = ("yes", "true", "1", "")


@dataclass(frozen=True)
class Request:
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


def pairs(arguments: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Split a command line into names and the values that follow each (RELION quotes nothing)."""
    found: list[tuple[str, tuple[str, ...]]] = []
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


def folders(arguments: Sequence[str]) -> tuple[str, Path] | None:
    """Return the job's folder and that of its exit files, however wrong the rest may be; None without --o."""
    given: dict[str, str] = {}
    for place, word in enumerate(arguments[:-1]):
        if word in ("--o", "--pipeline_control"):
            given[word] = arguments[place + 1]
    if "--o" not in given:
        return None
    folder = given["--o"].rstrip("/") + "/"
    return folder, Path(given.get("--pipeline_control", folder))


def parse(arguments: Sequence[str]) -> Request:
    """Read a command line as RELION makes it.

    Raises
    ------
    InputError
        Where the job's folder or its input is missing, or an option would write elsewhere.
    """
    where = folders(arguments)
    if where is None:
        raise InputError("no --o FOLDER: this program is started by RELION's External job")
    folder, control = where
    given = pairs(arguments)
    once = {name: " ".join(values) for name, values in given}
    for name in once:
        if name in _REFUSED:
            raise InputError(f"--{name} is not for an External job; results go to {folder}")
    useless = [name for name in _INPUTS if once.get(name)]
    if useless:
        raise InputError(f"--{useless[0]} is of no use here: give a map (in_3dref) or a model_star")
    source, is_set = _source(once)
    if source.startswith("-"):
        raise InputError(f"{source}: this is not a file")
    rest = [(name, values) for name, values in given if name not in _OURS and name not in _OF_SELECT]
    if once.get("in_mask"):
        as_region = is_set or any(name in _OF_REGIONS for name, _ in rest)
        rest.append(("masks" if as_region else "target_mask", (once["in_mask"],)))
    command = _command(is_set, rest)
    main = [command, source, "-o", folder, *_options(rest)]
    main += ["--plot"] if command == "estimate" and "plot" not in once else []
    main += ["--threads", once["j"]] if once.get("j") else []
    commands = [tuple(main)]
    wanted = [(name, values) for name, values in given if name in _OF_SELECT]
    if wanted:
        commands.append(_selection(source, is_set, once.get("in_parts"), folder, wanted))
    elif once.get("in_parts"):
        raise InputError("--in_parts: which particles? give the parameters region and present, or where")
    return Request(folder, control, tuple(commands))


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


def _command(is_set: bool, rest: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    if is_set:
        return "classes"
    return "regions" if any(name in _OF_REGIONS for name, _ in rest) else "estimate"


def _options(given: Sequence[tuple[str, tuple[str, ...]]]) -> list[str]:
    """Return options as `occupy` takes them: ``yes`` is a flag, ``no`` leaves it out, a list repeats it."""
    words: list[str] = []
    for name, values in given:
        flag = "--" + name.replace("_", "-")
        if len(values) == 1 and values[0].lower() in ("no", "false"):
            continue
        if not values or (len(values) == 1 and values[0].lower() in ("yes", "true")):
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
    wanted: Sequence[tuple[str, tuple[str, ...]]],
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
