"""Several runs over the same particles: find each one's file, and bring their particles together.

A run is a RELION job or data.star, a cryoSPARC job or .cs, cryoDRGN's or RECOVAR's labels (one whole number
per particle: .pkl or .txt), or a table with a column of particles and one of classes (.tsv or .csv; so is
``presence.tsv`` of `occupy particles`). Images are not looked at.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from occupy.errors import InputError, Notice
from occupy.io.cryosparc import read_structured
from occupy.io.mapset import natural, some_of
from occupy.io.particles import Particles, read_particles
from occupy.io.relion_job import finished_iterations
from occupy.io.star import read_star
from occupy.runs.agreement import Entries, Integers, Partition, Reals

_NamedBy = Literal["name", "uid", "row"]
_DATA = re.compile(r".+_it(\d+)_data\.star")
_CS = re.compile(r"(?!.*passthrough).*?(?:_(\d+))?_particles\.cs")
_PARTICLE = ("particle", "rlnimagename", "uid", "name", "index")
_CLASS = ("class", "state", "label", "cluster", "rlnclassnumber")
_PROBABILITY = ("probability", "state_probability", "certainty")


@dataclass(frozen=True, eq=False)
class Run:
    """What the file of one run says.

    Attributes
    ----------
    path : Path
        The file.
    named_by : str
        What `keys` are: ``name`` of an image, ``uid``, or ``row`` of the file.
    keys : ndarray, shape (N,)
        Which particle each entry is.
    sources : ndarray, shape (N,)
        The particle an entry was made of by symmetry expansion; elsewhere the keys.
    labels : ndarray of int64, shape (N,)
        Class numbers as the file has them.
    certainty : ndarray of float64, shape (N,), or None
        Probability of that class.
    particles : Particles or None
        What is needed to write some of them; None for tables.
    overstated : float or None
        By what the logarithms of its odds are too large; None where nothing tells.
    """

    path: Path
    named_by: _NamedBy
    keys: npt.NDArray[Any]
    sources: npt.NDArray[Any]
    labels: Integers
    certainty: Reals | None
    particles: Particles | None
    overstated: float | None = None

    @classmethod
    def read(cls, path: Path, class_field: str | None = None) -> Run:
        """Read one run: a file, or a folder in which its last iteration is found.

        Raises
        ------
        InputError
            Where there is no such file, or no classes in it.
        """
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if path.is_dir():
            path = _in_folder(path)
        name = path.name.lower()
        if name.endswith((".tsv", ".csv")):
            return _table(path)
        if name.endswith(".npy"):
            raise InputError(
                f"{path}: give labels as .pkl or .txt, or as a table (.tsv) of particle and class"
            )
        particles = read_particles(path, class_field if name.endswith(".cs") else None)
        overstated = _overstated(path) if particles.kind == "relion" else None
        return cls(path, *_keys(particles), particles.labels, particles.certainty, particles, overstated)


@dataclass(frozen=True, eq=False)
class CommonParticles:
    """The entries that are in every run, in the order of the first.

    Attributes
    ----------
    runs : tuple of Partition
        One per run.
    entries : Entries
        Which of them are of one particle.
    rows : tuple of ndarray of int64
        For each run, where its file has these entries.
    notices : tuple of Notice
        What is worth knowing.
    """

    runs: tuple[Partition, ...]
    entries: Entries
    rows: tuple[Integers, ...]
    notices: tuple[Notice, ...] = ()

    @classmethod
    def of(cls, runs: Sequence[Run], names: Sequence[str] | None = None) -> CommonParticles:
        """Bring the particles of several runs together.

        Raises
        ------
        InputError
            Where the runs have no particles in common.
        """
        labelled = _run_names([run.path for run in runs]) if names is None else list(names)
        keys, notices = _comparable_keys(runs)
        rows = _common_rows(keys)
        count = len(rows[0])
        if not count:
            raise InputError(f"{runs[0].path} and {runs[-1].path}: not one particle is in all runs")
        most = max(len(run.labels) for run in runs)
        if count < most:
            text = f"{count} of up to {most} particles are in all runs; the others are left out"
            notices.append(Notice("particles-left-out", text))
        certainties = [
            None if run.certainty is None else run.certainty[at] for run, at in zip(runs, rows, strict=True)
        ]
        partitions = tuple(
            replace(Partition.of(name, run.labels[at], certainty), overstated=run.overstated)
            for name, run, at, certainty in zip(labelled, runs, rows, certainties, strict=True)
        )
        of = Entries.of(_sources(runs, keys)[rows[0]])
        if of.expanded:
            text = f"{count} entries of {of.count} particles (symmetry-expanded): errors count particles"
            notices.append(Notice("expanded", text))
        return cls(partitions, of, rows, tuple(notices))


def _overstated(data: Path) -> float | None:
    """Return by what RELION's logarithms of odds are too large; None where the files of the job do not tell.

    With ``--zero_mask`` RELION sets images to zero outside of the particle's circle and measures the noise's
    spectrum on what is left: of its power only the mask's mean square. The signal lies within, where noise is
    as strong as before, so that every difference of log-likelihoods is too large by the inverse of that.

    Parameters
    ----------
    data : Path
        ``run_itNNN_data.star``; optimiser and model lie beside it.
    """
    stem = data.name.removesuffix("data.star")
    try:
        job = read_star(data.with_name(f"{stem}optimiser.star"))["optimiser_general"]
        model = read_star(data.with_name(f"{stem}model.star"))["model_general"]
        names = ("rlnDoZeroMask", "rlnParticleDiameter", "rlnWidthMaskEdge")
        masked, diameter, edge = (job.numbers(name)[0] for name in names)
        pixel, box = (model.numbers(f"rln{name}")[0] for name in ("PixelSize", "OriginalImageSize"))
    except (InputError, KeyError, IndexError):
        return None
    x = np.arange(box) - box // 2
    beyond = np.clip((np.hypot(x[:, None], x) - diameter / 2 / pixel) / max(edge, 1e-3), 0, 1)
    return float(1 / np.mean((0.5 + 0.5 * np.cos(np.pi * beyond)) ** 2)) if masked else 1.0


def _keys(particles: Particles) -> tuple[_NamedBy, npt.NDArray[Any], npt.NDArray[Any]]:
    """Return what particles are named by, their names, and those of what they were made of."""
    if particles.kind == "relion":
        found = list(read_star(particles.path, columns=("rlnImageName",)).values())
        if len(found) == 1:
            names = np.array(found[0].column("rlnImageName"))
            return "name", names, names
    if particles.kind == "cryosparc":
        content = read_structured(particles.path)
        fields = content.dtype.names or ()
        if "uid" in fields:
            source = "sym_expand/src_uid" if "sym_expand/src_uid" in fields else "uid"
            return "uid", content["uid"], content[source]
    rows = np.arange(len(particles.labels))
    return "row", rows, rows


def _in_folder(folder: Path) -> Path:
    """Find the file of particles and their classes in a job's folder."""
    files = sorted(folder.iterdir(), key=natural)
    data = {int(m[1]): path for path in files if (m := _DATA.fullmatch(path.name)) and int(m[1])}
    if data:
        # An iteration that is being written is not taken, unless nothing tells that it is.
        complete = [each.number for each in finished_iterations(folder) if each.number in data]
        return data[max(complete or data)]
    found = [(int(m[1] or 1 << 40), path) for path in files if (m := _CS.fullmatch(path.name))]
    if found:
        return max(found, key=lambda each: each[0])[1]
    homes = [folder, *(path for path in files if path.is_dir() and path.name.startswith("kmeans"))]
    labels = [path for home in homes if (path := _labels(home)) is not None]
    if len(labels) == 1:
        return labels[0]
    if labels:
        raise InputError(f"{folder}: labels in {some_of(path.parent.name for path in labels)}: name one")
    if (folder / "presence.tsv").is_file():
        return folder / "presence.tsv"
    raise InputError(
        f"{folder}: no run of a classification in it (no *_itNNN_data.star, *_particles.cs, or labels.pkl)"
    )


def _labels(folder: Path) -> Path | None:
    names = ("labels.pkl", "labels.txt", "kmeans_result.pkl", "data/kmeans_result.pkl")
    return next((p for name in names if (p := folder / name).is_file()), None)


def _table(path: Path) -> Run:
    """Read a table of particle, class and, where there is one, probability."""
    columns = _columns(path)
    every = (_PARTICLE, _CLASS, _PROBABILITY)
    particle, label, chance = (next((columns[n] for n in names if n in columns), ()) for names in every)
    try:
        labels = np.array(list(map(int, label)), dtype=np.int64)
        chances = np.array(list(map(float, chance))) if chance else None
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: a class or a probability is no number ({error})") from error
    named_by, keys = _named(particle)
    return Run(path, named_by, keys, keys, labels, chances, None)


def _columns(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the columns of a table by their names."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream, delimiter="\t" if path.name.lower().endswith(".tsv") else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if not (set(_PARTICLE) & set(header) and set(_CLASS) & set(header)) or len(rows) < 2:
        raise InputError(f"{path}: a table needs a line of names, with 'particle' and 'class', and rows")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise InputError(f"{path}: line {number} has {len(row)} cells, not {len(header)}")
    return dict(zip(header, zip(*rows[1:], strict=True), strict=True))


def _named(column: Sequence[str]) -> tuple[_NamedBy, npt.NDArray[Any]]:
    """Tell whether particles of a table are counted, numbered or named."""
    keys = np.array(column)
    if not all(map(str.isdecimal, column)):
        return "name", keys
    whole = keys.astype(np.uint64)
    if np.array_equal(np.sort(whole), np.arange(len(whole), dtype=np.uint64) + whole.min()):
        return "row", (whole - whole.min()).astype(np.int64)
    return "uid", whole


def _run_names(paths: Sequence[Path]) -> list[str]:
    """Return a short name for each run, all different: of its folder or file, with what tells them apart."""
    generic = re.compile(
        r"labels\.(pkl|txt)|data|kmeans_result\.pkl|presence\.tsv|(.*_)?(data\.star|particles\.cs)|kmeans\d+"
    )
    found = []
    for path in paths:
        parts = [part for part in path.absolute().parts if not generic.fullmatch(part)]
        found.append(parts[1:] or [path.name])
    for depth in range(1, max(map(len, found)) + 1):
        names = ["/".join(parts[-depth:]) for parts in found]
        if len(set(names)) == len(names):
            break
    counts: Counter[str] = Counter()
    out = []
    for name in names:
        counts[name] += 1
        out.append(f"{name} ({counts[name]})" if counts[name] > 1 else name)
    return out


def _comparable_keys(runs: Sequence[Run]) -> tuple[list[npt.NDArray[Any]], list[Notice]]:
    """Return what entries are matched by: their names, or their order where runs name them differently."""
    if len({run.named_by for run in runs}) == 1:
        return [run.keys for run in runs], []
    if len({len(run.labels) for run in runs}) > 1:
        raise InputError(
            f"{runs[0].path} and {runs[-1].path} name particles differently and have other numbers of "
            "them: it can't be told which is which"
        )
    text = "the runs name particles differently: taken to be the same particles in the same order"
    return [np.arange(len(run.labels)) for run in runs], [Notice("by-order", text)]


def _sources(runs: Sequence[Run], keys: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the particle of each entry of the first run, from whichever run tells."""
    for run, key in zip(runs, keys, strict=True):
        alike = run is runs[0] or np.array_equal(run.keys, runs[0].keys)
        if alike and len(np.unique(run.sources)) < len(key):
            return run.sources
    return keys[0]


def _common_rows(keys: Sequence[npt.NDArray[Any]]) -> tuple[Integers, ...]:
    """Where each run has the entries that all have. A particle's n-th entry is its n-th in every run."""
    if all(np.array_equal(key, keys[0]) for key in keys[1:]):
        return tuple(np.arange(len(key)) for key in keys)
    numbers = np.unique(np.concatenate(list(keys)), return_inverse=True)[1]
    ends = np.cumsum([len(key) for key in keys])
    unique = [_with_turn(part) for part in np.split(numbers, ends[:-1])]
    stride = 1 + max(int(turn.max(initial=0)) for _, turn in unique)
    ids = [number * stride + turn for number, turn in unique]
    common = ids[0]
    for other in ids[1:]:
        common = common[np.isin(common, other)]
    found = []
    for each in ids:
        order = np.argsort(each)
        found.append(order[np.searchsorted(each, common, sorter=order)].astype(np.int64))
    return tuple(found)


def _with_turn(numbers: Integers) -> tuple[Integers, Integers]:
    """Return numbers, and how often each came before in the same array."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, bool)
    begin = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
    turn = np.empty(len(numbers), dtype=np.int64)
    turn[order] = np.arange(len(ordered)) - begin
    return numbers.astype(np.int64), turn
