"""Files that RELION reads of an External job: how it ended, what others can take of it, and its pictures.

RELION's pipeliner waits for an exit file for ever, so one is written whatever happens: a file kept in reserve
is renamed, which works on a full disk too; and a second process, which does nothing but wait, writes it where
this one is killed. ``python -m occupy.relion.job_files FOLDER`` makes the PDF that RELION's GUI shows.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from occupy.io.atomic import atomic_file, write_text

Ending = Literal["SUCCESS", "FAILURE", "ABORTED"]
_ENDINGS: tuple[Ending, ...] = ("SUCCESS", "FAILURE", "ABORTED")
_ABORT_NOW = "RELION_JOB_ABORT_NOW"
_OUTPUT_NODES = "RELION_OUTPUT_NODES.star"
_RESERVE = ".occupy_exit_in_reserve"


def _exit_file(folder: Path, ending: Ending) -> Path:
    """Return the path of an exit file."""
    return folder / f"RELION_JOB_EXIT_{ending}"


@dataclass(frozen=True)
class ExitFiles:
    """The files in a folder by which RELION and a job tell each other how it ends.

    Attributes
    ----------
    folder : Path
        Of the job, or where RELION looks for its files.
    """

    folder: Path

    def clear(self) -> None:
        """Remove what an earlier run of the same job left, which RELION would take for this run's end."""
        stale = [_exit_file(self.folder, ending) for ending in _ENDINGS]
        for path in [*stale, self.folder / _ABORT_NOW, self.folder / _OUTPUT_NODES]:
            path.unlink(missing_ok=True)

    @property
    def abort_wanted(self) -> bool:
        """Whether RELION asks the job to stop."""
        return (self.folder / _ABORT_NOW).exists()

    def reserve(self) -> None:
        """Make the file that `write` renames."""
        (self.folder / _RESERVE).touch()

    def write(self, ending: Ending) -> None:
        """Write one exit file, and no other."""
        target = _exit_file(self.folder, ending)
        if any(_exit_file(self.folder, other).exists() for other in _ENDINGS):
            with suppress(OSError):
                (self.folder / _RESERVE).unlink(missing_ok=True)
            return
        try:
            (self.folder / _RESERVE).replace(target)
        except OSError:
            target.touch()
        with suppress(OSError):
            (self.folder / _ABORT_NOW).unlink(missing_ok=True)


def end_group(process: int, number: int) -> None:
    """Send a signal to a process and its children."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, number)


@dataclass(frozen=True)
class Guard:
    """The process that waits; it ends with this one.

    Attributes
    ----------
    pipe : int
        File descriptor: what this process tells it.
    process : int
        Its number.
    """

    pipe: int
    process: int

    def tell(self, worker: int) -> None:
        """Say which worker would have to be ended; 0 for none."""
        os.write(self.pipe, f"{worker}\n".encode())

    def dismiss(self) -> None:
        """Say that all ended well, and wait for it to go."""
        os.write(self.pipe, b"done\n")
        os.close(self.pipe)
        with suppress(ChildProcessError):
            os.waitpid(self.process, 0)

    @classmethod
    def start(cls, folder: Path) -> Guard:
        """Start the process that writes FAILURE and ends the worker where this process dies first."""
        reading, writing = os.pipe()
        process = os.fork()
        if process:
            os.close(reading)
            return cls(writing, process)
        code = 1
        try:
            os.close(writing)
            _keep_watch(reading, folder)
            code = 0
        finally:
            # Not sys.exit: nothing of the process it was copied from may run here.
            os._exit(code)


def _keep_watch(reading: int, folder: Path) -> None:
    # A signal to the job's whole group must not end the one process that can still report it.
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    told = b""
    while piece := os.read(reading, 4096):
        told += piece
    words = told.split()
    if words and words[-1] == b"done":
        return
    if words and int(words[-1]):
        end_group(int(words[-1]), signal.SIGKILL)
    ExitFiles(folder).write("FAILURE")


class _NodeType(NamedTuple):
    """A type in RELION's three styles: number (3.1), label (4 and 5), depth of the label (5)."""

    number: int
    label: str
    depth: int


_MAP = _NodeType(6, "DensityMap.mrc", 1)
_MASK = _NodeType(7, "Mask3D.mrc", 1)
_PARTICLES = _NodeType(3, "ParticleGroupMetadata.star.relion", 1)
_LOGFILE = _NodeType(13, "LogFile.pdf.relion", 1)


def _type_of(name: str) -> _NodeType | None:
    """Return the type of a file by its name; None for what RELION has no use for."""
    low = name.lower()
    if low.endswith(".mrc"):
        return _MASK if low.endswith(("_mask.mrc", "confidence.mrc")) else _MAP
    if low.endswith(".star"):
        return _PARTICLES
    return _LOGFILE if low == "logfile.pdf" else None


def _written_files(folder: Path, since: float = 0.0) -> list[str]:
    """Return the names of the files that records in a folder say were written, each once and existing.

    Parameters
    ----------
    folder : Path
        The job's folder.
    since : float
        Records that are older (seconds since 1970) are those of an earlier run and don't count.
    """
    found: dict[str, None] = {}
    for record in sorted(folder.glob("*.json")):
        try:
            # File systems may count in whole seconds.
            if record.stat().st_mtime < since - 1:
                continue
            about = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(about, dict) and "outputs" in about:
            found |= dict.fromkeys(_texts(about["outputs"]))
            found |= dict.fromkeys(
                _texts([m.get("outputs") for m in about.get("maps", []) if isinstance(m, dict)])
            )
    found |= {"logfile.pdf": None}
    # A record names files of its own folder only; another name would lead RELION elsewhere.
    return [name for name in found if Path(name).name == name and (folder / name).is_file()]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _nodes_text(folder: str, names: Sequence[str]) -> str:
    """Return the table of output nodes, readable by RELION 3.1, 4 and 5."""
    lines = ["", "data_output_nodes", "", "loop_"]
    columns = ("Name", "Type", "TypeLabel", "TypeLabelDepth")
    lines += [f"_rlnPipeLineNode{column} #{i}" for i, column in enumerate(columns, start=1)]
    for name in names:
        kind = _type_of(name)
        if kind is not None:
            path = f"{folder}{name}"
            path = f'"{path}"' if any(c.isspace() for c in path) else path
            lines.append(f"{path} {kind.number} {kind.label} {kind.depth}")
    return "\n".join([*lines, "", ""])


def write_nodes(folder: str, since: float = 0.0) -> list[str]:
    """Write ``RELION_OUTPUT_NODES.star`` for the results in a folder; name at most 100 and return them."""
    names = [name for name in _written_files(Path(folder), since) if _type_of(name) is not None][:100]
    write_text(Path(folder) / _OUTPUT_NODES, _nodes_text(folder, names))
    return names


def _write_logfile(folder: Path, most_pages: int = 40) -> int:
    """Write ``logfile.pdf``, a page per picture in the folder; return the number of pages."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    pictures = sorted(folder.glob("*.png"))[:most_pages]
    if not pictures:
        return 0
    with (
        atomic_file(folder / "logfile.pdf") as part,
        PdfPages(part, metadata={"CreationDate": None}) as pages,
    ):
        for picture in pictures:
            pixels = imread(picture)
            figure = Figure(figsize=(pixels.shape[1] / 150, pixels.shape[0] / 150))
            FigureCanvasAgg(figure)
            axes = figure.add_axes((0, 0, 1, 1))
            axes.imshow(pixels)
            axes.set_axis_off()
            pages.savefig(figure, dpi=150)
    return len(pictures)


if __name__ == "__main__":
    _write_logfile(Path(sys.argv[1]))
