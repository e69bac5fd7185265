"""Whole files of every kind that the program reads, what damages them, and what reads them; see fuzz.py."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from occupy.errors import OccupyError
from occupy.io.mrc import read_map, write_map
from occupy.volume import Volume

Rng = np.random.Generator
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 2**30, 401, 0x7FC00000, 0x7F800000, 0x3F800000, 0x41424344)
WORDS = (
    "nan", "inf", "-1", "0", "1e400", "99999999999999999999", "", "'", '"', ";", "data_", "loop_", "_x", "*a",
    "&a", "[", "{", "null", "true", "\x00", "\u00e4", "\udcff", "x" * 300, "../../etc", "A:1-", ": ", "- ",
    "\n", "#",
)  # fmt: skip


def damaged(rng: Rng, raw: bytes, other: bytes) -> bytes:
    """Return a file with one to four changes."""
    out = bytearray(raw)
    for _ in range(rng.integers(1, 5)):
        out = CHANGES[rng.integers(len(CHANGES))](rng, out, other)
    return bytes(out)


def _flip(rng: Rng, raw: bytearray, _: bytes) -> bytearray:
    for place in rng.integers(0, max(len(raw), 1), rng.integers(1, 9)):
        raw[place : place + 1] = rng.bytes(1)
    return raw


def _number(rng: Rng, raw: bytearray, _: bytes) -> bytearray:
    place = 4 * int(rng.integers(0, max(1, min(len(raw), 1024) // 4)))
    value = NUMBERS[rng.integers(len(NUMBERS))]
    raw[place : place + 4] = int(value).to_bytes(8, "little" if rng.random() < 0.8 else "big", signed=True)[
        :4
    ]
    return raw


def _cut(rng: Rng, raw: bytearray, _: bytes) -> bytearray:
    return raw[: rng.integers(0, len(raw) + 1)]


def _drop(rng: Rng, raw: bytearray, _: bytes) -> bytearray:
    start = int(rng.integers(0, len(raw) + 1))
    del raw[start : start + int(rng.integers(1, 60))]
    return raw


def _twice(rng: Rng, raw: bytearray, _: bytes) -> bytearray:
    start = int(rng.integers(0, len(raw) + 1))
    piece = raw[start : start + int(rng.integers(1, 200))]
    raw[start:start] = piece * int(rng.integers(1, 20))
    return raw


def _splice(rng: Rng, raw: bytearray, other: bytes) -> bytearray:
    start = int(rng.integers(0, len(raw) + 1))
    raw[start:] = other[rng.integers(0, len(other) + 1) :]
    return raw


def _word(rng: Rng, raw: bytearray, _: bytes) -> bytearray:
    start = int(rng.integers(0, len(raw) + 1))
    ends = [i for i in range(start, min(start + 40, len(raw))) if raw[i] in b" \t\n,:{}[]"]
    stop = ends[0] if ends else start
    raw[start:stop] = WORDS[rng.integers(len(WORDS))].encode("utf-8", "surrogateescape")
    return raw


CHANGES: tuple[Callable[[Rng, bytearray, bytes], bytearray], ...] = (
    _flip, _flip, _number, _number, _cut, _drop, _twice, _splice, _word, _word,
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """A kind of file: whole ones, the end of its name, and what reads it."""

    whole: Sequence[bytes]
    name: str
    read: Callable[[Path], object]

    def __call__(self, rng: Rng, folder: Path) -> None:
        """Damage one and read it."""
        raw, other = (self.whole[int(rng.integers(len(self.whole)))] for _ in range(2))
        path = folder / self.name
        path.write_bytes(damaged(rng, raw, other))
        self.read(path)


def blob(side: int = 24) -> Any:
    """Return a ball in noise."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices((side,) * 3) - (side - 1) / 2
    inside = z**2 + y**2 + x**2 < (0.3 * side) ** 2
    return (inside + 0.1 * rng.standard_normal((side,) * 3)).astype(np.float32)


def map_files() -> list[bytes]:
    """Return maps of every mode and byte order, with extended headers, compressed."""
    makers = importlib.import_module("strategies")
    data = blob(16)
    found = [makers.content(data * 40, mode, order) for mode in makers.MODES for order in "<>"]
    found.append(makers.content(data, extended=b"X, Y, Z".ljust(80) * 4, origin=(5, 6, 7), ispg=401))
    return [*found, gzip.compress(found[4], mtime=0)]


def read_any_map(path: Path) -> None:
    """Read a map and write it again: the copy is the same and lies at the same place."""
    volume = read_map(path)
    write_map(path.with_name("copy.mrc"), volume)
    again = read_map(path.with_name("copy.mrc"))
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_array_equal(again.position((0, 0, 0)), volume.position((0, 0, 0)))


def estimate_any_map(path: Path) -> None:
    """Estimate a map by the command line."""
    occupy(path, "-o", path.with_name("out"))


def occupy(*words: object) -> None:
    """Call the command line; it may say anything but that a mistake is its own."""
    from occupy.cli.main import _with_command, run

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(_with_command([str(word) for word in words]))
    if code not in (0, 1, 2) or "our mistake" in said.getvalue() or "Traceback" in said.getvalue():
        raise AssertionError(f"exit {code}: {said.getvalue()[-400:]}")


def star_files() -> list[bytes]:
    """Return particles of RELION 3.0 and 3.1."""
    head = "_rlnImageName #1\n_rlnClassNumber #2\n_rlnMaxValueProbDistribution #3\n"
    rows = "".join(f"{i:06d}@a/b.mrcs {i % 3 + 1} 0.{i}\n" for i in range(1, 9))
    optics = "# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n1 300\n\n"
    texts = [f"\ndata_\n\nloop_\n{head}{rows}\n", f"{optics}data_particles\n\nloop_\n{head}{rows}\n"]
    return [text.encode() for text in texts] + [gzip.compress(texts[1].encode(), mtime=0)]


def job_files(folder: Path) -> list[bytes]:
    """Return a model.star, whose maps are in the folder."""
    for k in (1, 2):
        write_map(folder / f"run_it001_class00{k}.mrc", Volume.from_array(blob(16), 2.0))
    rows = "".join(f"{folder}/run_it001_class00{k}.mrc 0.5 10.0\n" for k in (1, 2))
    head = "data_model_general\n_rlnNrClasses 2\n_rlnPixelSize 2\n_rlnCurrentIteration 1\n\n"
    names = "_rlnReferenceImage #1\n_rlnClassDistribution #2\n_rlnEstimatedResolution #3\n"
    return [f"{head}data_model_classes\nloop_\n{names}{rows}".encode()]


def cs_files() -> list[bytes]:
    """Return particles of cryoSPARC, with and without posteriors."""
    found = []
    for fields in (
        [("uid", "<u8"), ("alignments3D/class", "<u4"), ("alignments3D/class_posterior", "<f4")],
        [("blob/path", "S9"), ("a/class", "<i4"), ("a/class_posterior", "<f4", (2,))],
    ):
        out = io.BytesIO()
        np.save(out, np.zeros(6, dtype=fields))
        found.append(out.getvalue())
    return found


def pickle_files() -> list[bytes]:
    """Return labels of cryoDRGN by every protocol."""
    return [pickle.dumps(np.arange(9) % 3, protocol=p) for p in range(6)] + [pickle.dumps([1, 2, 0])]


def yaml_files() -> list[bytes]:
    """Return selections."""
    return [
        b"stalk: [A, B:1-80, L7]\nplain: A, B:1-80,95\nlist:\n  - B: 1-80\n  - NO\n'with space': [\"5S\"]\n"
    ]


def model_files() -> list[Any]:
    """Return a model as mmCIF and as PDB."""
    makers = importlib.import_module("molecules")
    made = makers.structure({"A": makers.line((0, 0, 0), 4), "B": makers.line((0, 9, 0), 4)})
    return [made.make_mmcif_document().as_string().encode(), made.make_pdb_string().encode()]


def read_any_model(path: Path) -> None:
    """Read a model, choose parts of it, and write it with other occupancies."""
    from occupy.io.models import read_model, write_occupancies
    from occupy.regions.region import _residues_of_selection

    model = read_model(path)
    _residues_of_selection(model, [model.chain_label(model.residues[0])], "x")
    values = {(r.chain, r.number, r.insertion): 0.5 for r in model.residues}
    write_occupancies(path, path.with_name("occupancies.cif"), values)


def record_files(folder: Path) -> tuple[bytes, bytes]:
    """Return the records of an estimate and of a set, made in the folder."""
    write_map(folder / "m.mrc", Volume.from_array(blob(), 3.0, "m"))
    occupy(folder / "m.mrc", "-o", folder / "done", "--quiet")
    importlib.import_module("standin_set").write_set(folder / "set")
    return (folder / "done" / "m_occupy.json").read_bytes(), (folder / "set" / "occupy_set.json").read_bytes()


def read_any_set_record(path: Path) -> None:
    """Read the record of a set in both ways."""
    from occupy.io.class_numbers import NumberedSet
    from occupy.report.set_record import read_set_record

    for read in (NumberedSet.read, read_set_record):
        with contextlib.suppress(OccupyError):
            read(path)


def use_record(folder: Path) -> Callable[[Path], None]:
    """Return a function that modifies, masks and resumes an estimate whose record is damaged."""

    def use(path: Path) -> None:
        (folder / "done" / "m_occupy.json").write_bytes(path.read_bytes())
        occupy("modify", folder / "done", "--amplify", 3, "-o", folder / "other")
        occupy("mask", "solvent", folder / "done", "-o", folder / "other" / "mask.mrc")
        occupy(folder / "m.mrc", "-o", folder / "done", "--resume")

    return use
