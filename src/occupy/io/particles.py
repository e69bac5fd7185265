"""Particles and their classes, or their parts: read them, and write some of them.

RELION's data.star, cryoSPARC's .cs, cryoDRGN's labels, and the table of presence of `occupy particles`. Only
the files named are read: the images they name are not looked at.

A pickle is a program: reading one from somebody else's folder can do anything. Here NumPy's names lead to
stand-ins that only keep what they are given; every other name is refused. The array is then made from the
bytes by us.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError
from occupy.io.atomic import atomic_file, read_errors
from occupy.io.cryosparc import read_structured, write_rows
from occupy.io.star import StarRows, StarTable, read_star

_Integers = npt.NDArray[np.int64]
_KINDS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}
_PASSED_OVER = {"f4", "f8"}
"""Types of arrays that may lie beside the wanted one; they are kept as bytes."""
_HOMES = tuple(f"numpy.{core}.{part}" for core in ("core", "_core") for part in ("multiarray", "numeric"))


class _RefusedError(Exception):
    """What a pickle holds besides plain arrays."""


class _Type:
    """Stands for numpy.dtype."""

    def __init__(self, kind: Any, *_: Any) -> None:
        if kind not in _KINDS | _PASSED_OVER:
            raise _RefusedError(f"numbers of type {kind!r}")
        self.kind: str = kind
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        # version, byte order, and five entries of structured types
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise _RefusedError("a structured type")
        if state[1] not in ("<", ">", "|", "="):
            raise _RefusedError(f"byte order {state[1]!r}")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.kind).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """Stands for numpy.ndarray while it is being filled."""

    def __init__(self, *_: Any) -> None:
        self.parts: tuple[Any, Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, data = state
        self.parts = data, kind, shape


def _numbers(data: Any, kind: Any, shape: Any) -> _Integers:
    if not isinstance(kind, _Type) or not isinstance(data, (bytes, bytearray)):
        raise _RefusedError("an array of objects")
    if not isinstance(shape, tuple) or len(shape) != 1 or not isinstance(shape[0], int):
        raise _RefusedError("an array of more than one dimension")
    if kind.kind not in _KINDS:
        raise _RefusedError(f"numbers of type {kind.kind!r}")
    found = np.frombuffer(data, kind.numpy())
    if len(found) != shape[0]:
        raise _RefusedError("an array of another length than it says")
    return found.astype(np.int64)


def _from_buffer(data: Any, kind: Any, shape: Any, *_: Any) -> _Array:
    made = _Array()
    made.parts = bytes(data), kind, shape
    return made


def _scalar(kind: Any, data: Any) -> int:
    return int(_numbers(data, kind, (1,))[0])


def _bytes_of(text: Any, encoding: Any) -> bytes:
    """Stand for _codecs.encode, by which Python 2 and protocol 2 keep bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError("a text")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand for bytes(), by which protocol 2 keeps an empty array."""
    return b""


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _bytes_of,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}
for _home in _HOMES:
    _STAND_INS[_home, "_reconstruct"] = _Array
    _STAND_INS[_home, "_frombuffer"] = _from_buffer
    _STAND_INS[_home, "scalar"] = _scalar


class _Reader(pickle.Unpickler):
    """Knows the names that a plain array needs, and leads them to the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise _RefusedError(f"{module}.{name}")
        return _STAND_INS[module, name]


def read_integers(path: Path) -> _Integers:
    """Read a pickled one-dimensional NumPy array (or list) of whole numbers, or the ``labels`` of a dict.

    Returns
    -------
    ndarray of int64, shape (N,)

    Raises
    ------
    InputError
        Where the file cannot be read, is no pickle, or asks for anything else than plain arrays.
    """
    with read_errors(path):
        raw = path.read_bytes()
    try:
        _check_sizes(raw)
        found = _Reader(io.BytesIO(raw)).load()
        return _plain(found)
    except _RefusedError as error:
        raise InputError(
            f"{path}: refused: it holds {error}, and only plain NumPy arrays of whole numbers are read"
        ) from error
    # A damaged pickle can raise nearly anything.
    except Exception as error:
        raise InputError(f"{path}: not a pickled NumPy array, or damaged ({type(error).__name__})") from error


def _check_sizes(raw: bytes) -> None:
    """Go through a pickle without loading it: what it announces must be there, and its table small.

    A damaged number of an entry makes Python set aside memory for all entries up to it.
    """
    for operation, argument, _ in pickletools.genops(raw):
        if operation.name.endswith("PUT") and isinstance(argument, int) and argument > len(raw):
            raise _RefusedError(f"a table of {argument} entries")


def _plain(found: Any) -> _Integers:
    if isinstance(found, dict) and "labels" in found:
        # RECOVAR keeps labels with the centres they belong to.
        return _plain(found["labels"])
    if isinstance(found, _Array) and found.parts is not None:
        return _numbers(*found.parts)
    if isinstance(found, (list, tuple)) and all(type(value) is int for value in found):
        return np.array(found, dtype=np.int64)
    raise _RefusedError(f"a {type(found).__name__.strip('_').lower()}")


def _write_integers(path: Path, values: npt.ArrayLike) -> None:
    """Write a one-dimensional array of whole numbers so that any NumPy since 1.0 reads it, atomically."""
    array = np.ascontiguousarray(values, dtype=np.int64)
    if array.ndim != 1:
        raise ValueError(f"one dimension is wanted, not {array.ndim}")
    text = pickle.dumps(array, protocol=2)
    # NumPy 2 writes its new module name, which NumPy before 1.26 does not know; all know the old one.
    text = text.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)
    with atomic_file(path) as part:
        part.write_bytes(text)


_ParticleKind = Literal["relion", "cryosparc", "cryodrgn"]
ENDINGS = {"relion": ".star", "cryosparc": ".cs", "cryodrgn": ".pkl"}
_CERTAINTY = "rlnMaxValueProbDistribution"


@dataclass(frozen=True, eq=False)
class Particles:
    """Class of every particle of a file, and what is needed to write some of them.

    Attributes
    ----------
    kind : str
        ``relion``, ``cryosparc`` or ``cryodrgn``.
    path : Path
        The file.
    labels : ndarray of int64, shape (N,), read-only
        Class of each particle, as the file says.
    base : int or None
        Number of the first class where the format fixes it (RELION: 1).
    certainty : ndarray of float64, shape (N,), or None
        Probability of the most probable assignment, where the file says.
    shares : dict of int to float, or None
        Class, as the file numbers it, → its share of all particles by posterior probability, where the file
        has them for all classes.
    """

    kind: _ParticleKind
    path: Path
    labels: npt.NDArray[np.int64]
    base: int | None = None
    certainty: npt.NDArray[np.float64] | None = None
    shares: dict[int, float] | None = None
    _content: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.labels.flags.writeable = False

    def counts(self) -> dict[int, int]:
        """Return class → number of particles, in order, without empty classes."""
        numbers, counts = np.unique(self.labels, return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    def check_target(self, target: Path) -> None:
        """Make sure that a name suits what will be written there; InputError otherwise."""
        _check_name(self.path, ENDINGS[self.kind], target)

    def write(
        self,
        keep: npt.NDArray[np.bool_],
        target: Path,
        parents: Sequence[int] | npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Write the particles to keep, in the format they came in.

        Parameters
        ----------
        keep : ndarray of bool, shape (N,)
            Which of them.
        target : Path
            A STAR file with all tables and columns of the original (byte by byte, but for the rows left out),
            a .cs file with all fields and its result group (.csg), or a pickled NumPy array of particle
            indices, counted from 0, for cryoDRGN's ``--ind``.
        parents : sequence of int, optional
            cryoDRGN only: the indices the analysis was made of (its ``--ind``), shape (N,).
        """
        self.check_target(target)
        if self.kind == "relion":
            rows: StarRows = self._content
            rows.write_kept(keep.tolist(), target)
        elif self.kind == "cryosparc":
            write_rows(self.path, self._content[keep], target)
        else:
            indices = np.flatnonzero(keep)
            _write_integers(target, indices if parents is None else np.asarray(parents)[indices])


def read_particles(path: Path, class_field: str | None = None) -> Particles:
    """Read which class each particle belongs to.

    Parameters
    ----------
    path : Path
        ``*.star`` (RELION 3.0 to 5), ``*.cs`` (cryoSPARC), cryoDRGN's ``labels.pkl`` or ``labels.txt``, or
        RECOVAR's ``kmeans_result.pkl``.
    class_field : str, optional
        The field of a .cs file that holds the class, where there is more than one.

    Raises
    ------
    InputError
        Where the file is none of these, or without classes.
    """
    name = path.name.lower()
    if class_field is not None and not name.endswith(".cs"):
        raise InputError(f"{path}: --class-field is for .cs files")
    if name.endswith((".star", ".star.gz")):
        return _relion(path)
    if name.endswith(".cs"):
        return _cryosparc(path, class_field)
    if name.endswith("_ind.pkl"):
        # Whole numbers too: as labels they would select other particles without a word.
        raise InputError(
            f"{path}: this lists particles, it does not say which class each is in; give labels.pkl "
            "(what training was restricted to goes to --parent-ind)"
        )
    if name.endswith(".pkl"):
        return _not_empty(Particles("cryodrgn", path, read_integers(path)))
    if name.endswith(".txt"):
        return _not_empty(Particles("cryodrgn", path, _text_labels(path)))
    raise InputError(f"{path}: no particles with classes: give a data.star, a .cs, or cryoDRGN's labels.pkl")


def _not_empty(particles: Particles) -> Particles:
    if not len(particles.labels):
        raise InputError(f"{particles.path}: no particles")
    return particles


# --- RELION -------------------------------------------------------------------------------------------


def _relion(path: Path) -> Particles:
    tables = {
        name: table
        for name, table in read_star(path, columns=("rlnClassNumber", _CERTAINTY)).items()
        if table.has("rlnClassNumber")
    }
    if len(tables) != 1:
        what = "more than one table" if tables else "no table"
        why = "" if tables else " (particles that were not classified?)"
        raise InputError(f"{path}: {what} with rlnClassNumber{why}; give the *_data.star of a classification")
    block, table = next(iter(tables.items()))
    rows = StarRows.find(path, block)
    if not rows.lines:
        raise InputError(f"{path}: one particle and no loop, or no particles; there is nothing to select")
    certainty = np.array(table.numbers(_CERTAINTY)) if table.has(_CERTAINTY) else None
    return _not_empty(Particles("relion", path, _class_numbers(table), 1, certainty, None, rows))


def _class_numbers(table: StarTable) -> npt.NDArray[np.int64]:
    values = np.array(table.numbers("rlnClassNumber"))
    # RELION counts in 32 bits; what is larger, or NaN, is damage.
    if not np.all(np.abs(values) < 1 << 31) or np.any(values != np.rint(values)):
        raise InputError(f"{table.source}: rlnClassNumber should hold whole numbers")
    return values.astype(np.int64)


# --- cryoSPARC ----------------------------------------------------------------------------------------


def _cryosparc(path: Path, class_field: str | None) -> Particles:
    content = read_structured(path)
    field = _class_field(content, class_field, path)
    labels = content[field]
    if labels.dtype.kind not in "iu":
        raise InputError(f"{path}: {field} should hold whole numbers")
    certainty = shares = None
    posterior = content[field + "_posterior"] if field + "_posterior" in (content.dtype.names or ()) else None
    if posterior is not None and posterior.ndim == 1:
        certainty = posterior.astype(np.float64)
    elif posterior is not None and posterior.ndim == 2:
        certainty = posterior.max(axis=1).astype(np.float64)
        shares = dict(enumerate(posterior.mean(axis=0).tolist()))
    return _not_empty(Particles("cryosparc", path, labels.astype(np.int64), None, certainty, shares, content))


_NO_CLASSES = "give the particles of a classification, not the passthrough file"


def _class_field(content: npt.NDArray[Any], wanted: str | None, path: Path) -> str:
    """Return the name of the field that holds classes; InputError where there is none, or several differ."""
    names = [name for name in content.dtype.names or () if name.endswith("/class")]
    found = [name for name in names if content[name].ndim == 1]
    if wanted not in (None, *found):
        raise InputError(f"{path}: no field {wanted!r} of classes; it has {', '.join(found) or 'none'}")
    if not found:
        raise InputError(f"{path}: no field …/class; {_NO_CLASSES}")
    first = wanted or found[0]
    other = next((n for n in found if not np.array_equal(content[n], content[first])), None)
    if wanted is None and other is not None:
        raise InputError(f"{path}: fields {first} and {other} differ; name one with --class-field")
    return first


# --- cryoDRGN -----------------------------------------------------------------------------------------


def _text_labels(path: Path) -> npt.NDArray[np.int64]:
    with read_errors(path):
        words = path.read_text(encoding="utf-8").split()
    try:
        return np.array([int(word) for word in words], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: one whole number per particle is wanted") from error


# --- writing ------------------------------------------------------------------------------------------


def _check_name(source: Path, ending: str, target: Path) -> None:
    if not target.name.lower().endswith(ending):
        raise InputError(f"{target}: particles of {source.name} are written to a {ending} file")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: this is the file the particles are read from; choose another name")


_FIRST = ("particle", "state", "state_probability")


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
    with read_errors(path, "no such file; give the folder that occupy particles wrote"):
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    header = first.split("\t")
    if tuple(header[: len(_FIRST)]) != _FIRST:
        raise InputError(f"{path}: not a table of presence (of occupy particles)")
    try:
        table = np.loadtxt(rest.splitlines(), delimiter="\t", ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: damaged: {error}") from error
    if table.shape[1] != len(header):
        raise InputError(f"{path}: damaged: {table.shape[1]} columns under {len(header)} names")
    return tuple(header[len(_FIRST) :]), table[:, len(_FIRST) :]


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
    _check_name(source, ending, target)
    if ending == ".cs":
        content = read_structured(source)
        _check_count(source, len(content), keep)
        write_rows(source, content[keep], target)
        return
    blocks = list(read_star(source, columns=("rlnImageName",)))
    if len(blocks) != 1:
        raise InputError(f"{source}: no particles (a table with rlnImageName) in it")
    rows = StarRows.find(source, blocks[0])
    _check_count(source, len(rows.lines), keep)
    rows.write_kept(keep.tolist(), target)


def write_with_class(source: Path, numbers: npt.NDArray[np.int64], target: Path) -> None:
    """Write the particles of a .cs file with these class numbers (``alignments3D/class``), from 0."""
    content, name = read_structured(source), "alignments3D/class"
    _check_count(source, len(content), numbers)
    known = content.dtype.descr
    dtype = content.dtype if name in (content.dtype.names or ()) else np.dtype([*known, (name, "<u4")])
    table = np.zeros(len(content), dtype=dtype)
    for column in content.dtype.names or ():
        table[column] = content[column]
    table[name] = numbers
    write_rows(source, table, target)


def _check_count(source: Path, count: int, keep: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> None:
    if count != len(keep):
        raise InputError(f"{source}: {count} particles, but the table of presence has {len(keep)}")
