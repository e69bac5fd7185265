"""The table of which particle has what, and particles chosen by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.atomic import atomic_file
from occupy.io.particles import read_structured
from occupy.io.star import read_star
from occupy.io.star_rows import check_rows, find_rows, write_kept

FIRST = ("particle", "state", "state_probability")


def read_presence(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Read ``presence.tsv`` of `occupy particles`.

    Returns
    -------
    names : tuple of str, length C
        Parts.
    presence : ndarray of float64, shape (N, C)
        Probability that a particle has a part.

    Raises
    ------
    InputError
        Where there is no such table, or it is damaged.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            header = stream.readline().rstrip("\n").split("\t")
            if tuple(header[: len(FIRST)]) != FIRST:
                raise InputError(f"{path}: not a table of presence (of occupy particles)")
            table = np.loadtxt(stream, delimiter="\t", ndmin=2)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; give the folder that occupy particles wrote") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged: {error}") from error
    if table.shape[1] != len(header):
        raise InputError(f"{path}: damaged: {table.shape[1]} columns under {len(header)} names")
    return tuple(header[len(FIRST) :]), table[:, len(FIRST) :]


def write_chosen(source: Path, keep: npt.NDArray[np.bool_], target: Path) -> None:
    """Write the particles to keep, in the order and format of their file.

    Parameters
    ----------
    source : Path
        The file that `occupy particles` read: ``.star`` or ``.cs``.
    keep : ndarray of bool, shape (N,)
        Which of them.
    target : Path
        Of the same ending.

    Raises
    ------
    InputError
        Where the number of particles is another one, or names do not fit.
    """
    ending = ".cs" if source.name.lower().endswith(".cs") else ".star"
    if not target.name.lower().endswith(ending):
        raise InputError(f"{target}: particles of {source.name} are written to a {ending} file")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: this is the file the particles are read from; choose another name")
    if ending == ".cs":
        content = read_structured(source)
        _check_count(source, len(content), keep)
        with atomic_file(target) as part, part.open("wb") as out:
            np.lib.format.write_array(out, content[keep], allow_pickle=False)
        return
    found = [(name, table) for name, table in read_star(source).items() if table.has("rlnImageName")]
    if len(found) != 1:
        raise InputError(f"{source}: no particles (a table with rlnImageName) in it")
    name, table = found[0]
    rows = find_rows(source, name)
    check_rows(source, rows, table.column(rows.first))
    _check_count(source, len(rows.lines), keep)
    write_kept(rows, keep.tolist(), target)


def _check_count(source: Path, count: int, keep: npt.NDArray[np.bool_]) -> None:
    if count != len(keep):
        raise InputError(f"{source}: {count} particles, but the table of presence has {len(keep)}")
