"""What the viewer does: the functions behind the page, plain values in and out, without HTTP."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np

from occupy._version import __version__
from occupy.errors import InputError
from occupy.inputs import InputFiles, Inputs
from occupy.io.checksum import ReadFile
from occupy.io.loop import drawn_notice
from occupy.io.mrc import map_stem, write_map
from occupy.numerics.parallel import one_blas_thread
from occupy.report.estimate_page import write_report
from occupy.report.figures import modifications
from occupy.report.palette import MINIMUM_SCALE
from occupy.report.record import record_of
from occupy.report.results import WHAT, Written, write_results
from occupy.result import LoadedResult, load
from occupy.settings import Output, Settings
from occupy.volume import Volume
from occupy.web.document import MapDocument, ReadMap
from occupy.web.forms import (
    Said,
    command_line,
    flag,
    input_words,
    names,
    number,
    schema,
    settings_from,
    text,
    whole,
)
from occupy.web.jobs import Job, Jobs
from occupy.web.mapset import SetDocument
from occupy.web.model import parts_of, trace_message
from occupy.web.scene import Limits, OpenScenes, Scene, palettes
from occupy.web.shelf import ArrayCache, Shelf, WatchedFiles, free_name, kind_of_file, kind_of_folder


@dataclass(frozen=True)
class Download:
    """A file to send, and a folder to throw away afterwards."""

    path: Path
    name: str
    temporary: Path


class Viewer:
    """Everything that is open, and the jobs under way.

    Parameters
    ----------
    shelf : Shelf
        The files that may be opened.
    neighbours : bool
        Whether half-maps that lie beside a map may be taken, unless a request says otherwise.
    limits : Limits, optional
        Memory it may take.
    """

    def __init__(self, shelf: Shelf, *, neighbours: bool = True, limits: Limits | None = None) -> None:
        self.shelf = shelf
        self.neighbours = neighbours
        limits = limits or Limits.usual()
        self.cache = ArrayCache(limits.layers)
        self.jobs = Jobs()
        self.scenes = OpenScenes(limits.scenes)
        self._numbers = count(1)
        # Goes with the program, even if a browser never fetched what was made for it.
        self._scratch = tempfile.TemporaryDirectory(prefix="occupy-view-")
        # For as long as it runs: OpenBLAS takes its limit from the main thread only, not from those of jobs.
        self._limits = ExitStack()
        self._limits.enter_context(one_blas_thread())

    def close(self) -> None:
        """Stop all jobs, and remove what was made for downloads."""
        self.jobs.close()
        self._limits.close()
        self._scratch.cleanup()

    def scene(self, said: Said) -> Scene:
        """Return the scene a request is about; ClosedError where its files are not what they were."""
        return self.scenes.get(whole(said, "id"))

    def document(self, said: Said) -> MapDocument:
        """Return the map a request is about; InputError where it is a set, or not yet estimated."""
        scene = self.scene(said)
        if isinstance(scene, ReadMap) and not isinstance(scene, MapDocument):
            raise InputError(f"{scene.title} has not been estimated yet")
        if not isinstance(scene, MapDocument):
            raise InputError("this can be done with a map, not with a set")
        return scene

    def state(self, _: Said) -> dict[str, Any]:
        """Return what is open and what the form looks like."""
        return {
            "version": __version__,
            "root": str(self.shelf.root),
            "scenes": [{"id": s.id, "title": s.title} for s in self.scenes.in_order()],
            "neighbours": self.neighbours,
            "upload": {"most": self.largest_upload, "folder": str(self.shelf.base)},
            "jobs": [j.id for j in self.jobs.running()],
            "schema": schema(),
            "palettes": palettes(),
            "minimum_scale": MINIMUM_SCALE,
        }

    def files(self, said: Said) -> dict[str, Any]:
        """List a folder."""
        return self.shelf.listing(text(said, "path", ""))

    def open(self, said: Said) -> dict[str, Any]:
        """Begin to open a map, a result folder or a set."""
        path = self.shelf.find(text(said, "path"))
        settings = settings_from(said.get("settings", {}))
        voxel = said.get("voxel_size")
        if voxel is not None and (isinstance(voxel, bool) or not isinstance(voxel, (int, float))):
            raise InputError(f"voxel size must be a number, not {voxel!r}")
        kind = kind_of_folder(path) if path.is_dir() else kind_of_file(path.name)
        work = {"set": self._open_set, "result": self._open_result}.get(kind or "")
        if work is not None:
            return self._started(path.name, lambda job: work(path, job))
        if path.is_dir():
            raise InputError(f"{path.name}: a folder without results; choose a map in it")
        files = InputFiles(path, voxel_size=voxel, neighbours=flag(said, "neighbours", self.neighbours))
        return self._started(path.name, lambda job: self._open_map(files, settings, job))

    @property
    def largest_upload(self) -> int:
        """Bytes of the largest file that is taken: a larger map could not be opened."""
        return self.scenes.limit

    def uploaded(self, path: Path) -> dict[str, Any]:
        """Allow a file that was uploaded to be opened; return its path and kind."""
        self.shelf = self.shelf.also(path)
        return {"path": str(path), "kind": kind_of_file(path.name)}

    def fetch(self, said: Said) -> dict[str, Any]:
        """Begin to download an EMDB entry and open its map."""
        from occupy.io.emdb import fetch, normalise_entry_id

        entry = normalise_entry_id(text(said, "entry"))
        neighbours = flag(said, "neighbours", self.neighbours)

        def work(job: Job) -> dict[str, Any]:
            found = fetch(entry, progress=job.report)
            self.shelf = self.shelf.also(found.map_path)
            files = InputFiles(found.map_path, neighbours=neighbours)
            return self._open_map(files, Settings(), job, level=found.contour_level)

        return self._started(entry, work)

    def _started(self, title: str, work: Callable[[Job], dict[str, Any]]) -> dict[str, Any]:
        return {"job": self.jobs.start(title, work).id}

    def _add(self, scene: Scene) -> dict[str, Any]:
        self.scenes.add(scene)
        return {"scene": scene.id}

    def _open_map(
        self, files: InputFiles, settings: Settings, job: Job, *, level: float | None = None,
        result: LoadedResult | None = None, which: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        job.report("reading", 0, 0)
        watched, job.scene = WatchedFiles(), which
        which = next(self._numbers) if which is None else which

        def read(path: Path, voxel_size: float | None = None) -> tuple[Volume, ReadFile]:
            volume, source = watched.read(path, voxel_size)
            # Of what lies beside it nothing is seen yet: where that is bad, it may be mended meanwhile.
            alone = WatchedFiles()
            first = ReadMap(which, files, volume, settings, alone, self.cache, level=level)
            if path == files.map and all(map(isfinite, first.span)):
                # Seen before the rest is read and anything is estimated.
                alone.watch(path)
                self.scenes.add(first)
                job.scene = which
            return volume, source

        inputs = files.open(settings, read)
        if result is not None:
            _check_inputs(inputs, result)
            watched.check()
        est = inputs.estimate(settings, job.report)
        document = MapDocument(which, files, est, settings, watched, self.cache, result=result, level=level)
        drawn = drawn_notice(files.map)
        if drawn is not None:
            job.say(f"note: {drawn.text}")
        return self._ready(document, job)

    def _ready(self, document: MapDocument, job: Job) -> dict[str, Any]:
        job.report("local scale", 0, 0)
        document.prepare()
        about = document.about()
        for line in about["lines"]:
            job.say(line)
        for notice in about["notices"]:
            job.say(f"note: {notice['text']}")
        return self._add(document)

    def _open_result(self, folder: Path, job: Job) -> dict[str, Any]:
        result = load(folder)
        record = result.read
        source = self._input_of(record, folder)
        for file in result.files[result.names[0]].values():
            self.shelf.find(str(file))
        try:
            asked = settings_from(record["settings_asked"])
            files = InputFiles.of_record(record, source, self.shelf.find)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{result.path}: the record is damaged ({error!r})") from error
        return self._open_map(files, asked, job, level=record["options"].get("level"), result=result)

    def _input_of(self, record: Mapping[str, Any], folder: Path) -> Path:
        """Return the map a result was made of: where it was, or beside the results."""
        path = Path(str(record["inputs"]["map"]["path"]))
        for place in (str(path), str(folder / path.name), str(folder.parent / path.name)):
            with suppress(InputError):
                return self.shelf.find(place)
        raise InputError(
            f"the input map of {folder.name}, {path}, is not there any more, or outside of the folder being "
            f"viewed; to allow it, start the viewer with: occupy view {folder}"
        )

    def _open_set(self, folder: Path, job: Job) -> dict[str, Any]:
        job.report("reading", 0, 0)
        return self._add(SetDocument(next(self._numbers), folder, self.shelf, self.cache))

    def close_scene(self, said: Said) -> dict[str, Any]:
        """Forget a scene, and stop what is still done for it."""
        number = whole(said, "id")
        for job in self.jobs.running():
            if job.scene == number:
                job.stop()
        self.scenes.close(number)
        return {}

    def describe(self, said: Said) -> dict[str, Any]:
        """Return everything of a scene but pictures."""
        scene = self.scene(said)
        about = scene.describe() | {"at_work": self._at_work(scene)}
        if isinstance(scene, MapDocument):
            about["saves_into"] = str(self._folder_of(scene))
        return about

    def _at_work(self, scene: Scene) -> bool:
        """Tell whether a scene is being estimated."""
        return any(job.scene == scene.id for job in self.jobs.running())

    def _folder_of(self, document: MapDocument) -> Path:
        """Return the folder that results of a map are written into: that of the command line."""
        return document.folder or self.shelf.base / f"occupy_{map_stem(document.path)}"

    def job(self, said: Said) -> dict[str, Any]:
        """Return how a job stands."""
        return self.jobs.get(whole(said, "job")).as_dict()

    def stop(self, said: Said) -> dict[str, Any]:
        """Stop a job."""
        self.jobs.get(whole(said, "job")).stop()
        return {}

    def slices(self, said: Said) -> bytes:
        """Return one slice of several layers."""
        return self.scene(said).slices(whole(said, "axis"), whole(said, "index"), names(said, "layers"))

    def values(self, said: Said) -> dict[str, float]:
        """Return the values of layers at a voxel."""
        place = [whole(said, axis) for axis in "zyx"]
        return self.scene(said).values(place, names(said, "layers"))

    def mesh(self, said: Said) -> bytes:
        """Return a surface."""
        return self.scene(said).surface(
            text(said, "source", "input"), number(said, "level"), names(said, "colours"),
            dust=number(said, "dust", 0.0), quality=text(said, "quality", "fine"),
        )  # fmt: skip

    def preview_mesh(self, said: Said) -> bytes:
        """Return the surface of the modified map."""
        document = self.document(said)
        data = document.preview(settings_from(said.get("settings", {})))
        return document.surface(
            "input", number(said, "level"), names(said, "colours"), data=data,
            dust=number(said, "dust", 0.0), quality=text(said, "quality", "fine"),
        )  # fmt: skip

    def trace(self, said: Said) -> bytes:
        """Return the trace of a model."""
        return trace_message(self.shelf.find(text(said, "path")))

    def parts(self, said: Said) -> dict[str, Any]:
        """Begin to find what the parts of a model read in a map."""
        document, path = self.document(said), self.shelf.find(text(said, "path"))
        by, reading = text(said, "by", "chain"), flag(said, "by_reading", False)
        return self._started(f"parts of {path.name}", lambda job: parts_of(document, path, by, reading, job))

    def resolve(self, said: Said) -> dict[str, Any]:
        """Return what settings mean for a map, and the command that does the same."""
        document, settings = self.document(said), settings_from(said.get("settings", {}))
        return {
            "settings": document.resolved(settings).as_dict(),
            "command": self._command(document, settings, files=_files_asked(document, said)),
        }

    def _command(
        self, document: MapDocument, settings: Settings, extra: Sequence[str] = (),
        files: InputFiles | None = None,
    ) -> str:  # fmt: skip
        """Return the command line that gives what this map shows, with these settings."""
        words = input_words(files or document.files, settings, self.shelf.in_shell)
        if document.given_level is not None:
            words += ["--level", repr(document.given_level)]
        folder = self._folder_of(document)
        if folder != self.shelf.base / f"occupy_{map_stem(document.path)}":
            words += ["-o", self.shelf.in_shell(folder)]
        return command_line(self.shelf.in_shell(document.path), settings, [*words, *extra])

    def modification(self, said: Said) -> dict[str, Any]:
        """Return what a modification does: the factors for the preview, and its curve."""
        document, settings = self.document(said), settings_from(said.get("settings", {}))
        scale = np.linspace(0, 1, 201, dtype=np.float32)
        curves = modifications(document.resolved(settings), scale)
        return {
            **document.modification(settings),
            "scale": scale.tolist(),
            "curves": {label: curve.tolist() for label, curve in curves.items()},
        }

    def estimate(self, said: Said) -> dict[str, Any]:
        """Begin to estimate a map anew with other settings, or again where that failed or was stopped."""
        settings, scene = settings_from(said.get("settings", {})), self.scene(said)
        if isinstance(scene, ReadMap) and not isinstance(scene, MapDocument):
            if self._at_work(scene):
                raise InputError(f"{scene.title} has not been estimated yet, but is being")
            asked, level, which = _files_asked(scene, said), scene.given_level, scene.id
            return self._started(
                scene.title, lambda job: self._open_map(asked, settings, job, level=level, which=which)
            )
        document = self.document(said)
        files = _files_asked(document, said)

        def work(job: Job) -> dict[str, Any]:
            est = files.open(settings, document.watched.read).estimate(settings, job.report)
            job.report("local scale", 0, 0)
            document.take(est, files, settings)
            return self._ready(document, job)

        return self._started(f"estimate {document.title}", work)

    def mask(self, said: Said) -> dict[str, Any]:
        """Begin to make a mask."""
        document, kind = self.document(said), text(said, "kind")
        options = said.get("options")
        if not isinstance(options, Mapping):
            raise InputError("options of a mask must be names with values")

        def work(job: Job) -> dict[str, Any]:
            job.report(f"{kind} mask", 0, 0)
            job.say(document.make_mask(kind, options))
            return {"scene": document.id, "layer": f"{kind}_mask"}

        return self._started(f"{kind} mask", work)

    def save(self, said: Said) -> dict[str, Any]:
        """Begin to write results, or one layer, into the folder that is viewed."""
        document = self.document(said)
        folder = self._folder_of(document)
        if not any(folder.resolve().is_relative_to(top) for top in (self.shelf.root, self.shelf.base)):
            raise InputError(f"{folder}: outside of the folder being viewed; nothing is written there")
        if said.get("layer") is not None:
            volume, name = self._layer(document, said)
            path = free_name(folder / name)
            return self._started(f"save {path.name}", lambda job: _save_layer(volume, path, job))
        settings = settings_from(said.get("settings", {}))
        plot, report = bool(said.get("plot")), bool(said.get("report"))

        def work(job: Job) -> dict[str, Any]:
            document.before_writing(folder)
            written, asked = self._write(document, settings, folder, job, plot=plot, report=report)
            document.written(load(written.folder / written.files["record"]), asked)
            self.shelf = self.shelf.also(folder)
            return {"folder": str(folder)}

        return self._started(f"save {folder.name}", work)

    def _layer(self, document: MapDocument, said: Said) -> tuple[Any, str]:
        layer = text(said, "layer")
        stem = map_stem(document.path)
        if layer == "preview":
            settings = settings_from(said.get("settings", {}))
            data = document.preview_in_file_order(settings)
            return document.est.volume.with_data(data), f"{stem}_modified.mrc"
        if layer not in document.looks:
            raise InputError(f"there is no layer {layer!r}")
        return document.as_volume(layer), f"{stem}_{layer}.mrc"

    def _write(
        self, document: MapDocument, settings: Settings, folder: Path, job: Job, *, plot: bool, report: bool,
        source: Path | None = None,
    ) -> tuple[Written, Settings]:  # fmt: skip
        est, asked = document.with_modification(settings)
        inputs = document.open_inputs(asked).by_role
        if source is not None:
            inputs["map"] = inputs["map"][0], source
        extra = [*(["--plot"] if plot else []), *(["--report"] if report else [])]
        level, size = document.given_level, document.files.voxel_size
        written = write_results(
            est, asked, folder, Output(plot=plot, report=report, level=level), inputs=inputs, voxel_size=size,
            command=shlex.split(self._command(document, asked, extra)), progress=job.report,
        )  # fmt: skip
        job.say(f"written to {folder}")
        return written, asked

    def download(self, said: Said) -> Download:
        """Return one layer as a map file, or everything as an archive for ChimeraX."""
        document = self.document(said)
        temporary = Path(tempfile.mkdtemp(dir=self._scratch.name))
        try:
            if said.get("layer") is not None:
                volume, name = self._layer(document, said)
                write_map(temporary / name, volume, "from the viewer")
                return Download(temporary / name, name, temporary)
            if said.get("report"):
                return self._report(document, said, temporary)
            return self._archive(document, settings_from(said.get("settings", {})), temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _report(self, document: MapDocument, said: Said, temporary: Path) -> Download:
        est, asked = document.with_modification(settings_from(said.get("settings", {})))
        record = record_of(
            est, asked, inputs=document.open_inputs(asked).by_role, outputs={},
            variability_limit=document.est.variability_limit,
            command=shlex.split(self._command(document, asked)),
        )  # fmt: skip
        name = f"{map_stem(document.path)}_report.html"
        write_report(temporary / name, est, record, level=document.given_level)
        return Download(temporary / name, name, temporary)

    def _archive(self, document: MapDocument, settings: Settings, temporary: Path) -> Download:
        stem = map_stem(document.path)
        folder = temporary / f"occupy_{stem}"
        folder.mkdir()
        copy = folder / document.path.name
        shutil.copyfile(document.path, copy)
        # The copy must be of the map that is open, not of one that has just taken its place.
        document.watched.check()
        job = Job(0, "archive")
        self._write(document, settings, folder, job, plot=False, report=False, source=copy)
        name = f"{stem}_chimerax.zip"
        with ZipFile(temporary / name, "w", ZIP_STORED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"{folder.name}/{file.name}")
        return Download(temporary / name, name, temporary)


def _files_asked(document: ReadMap, said: Said) -> InputFiles:
    """Return what a map was opened with, with or without half-maps beside it as a request says."""
    wanted = flag(said, "neighbours", document.files.neighbours)
    return document.files if document.files.half_maps else replace(document.files, neighbours=wanted)


def _check_inputs(inputs: Inputs, result: LoadedResult) -> None:
    """Raise InputError where a file is not what the result was made of: its maps would not belong to it."""
    for role, path in inputs.files.items():
        if inputs.sources[role].sha256 != result.read["inputs"][role]["sha256"]:
            raise InputError(
                f"{path.name} is not what {result.path.parent.name} was made of (its checksum differs); "
                "open the map itself to estimate it anew"
            )


def _save_layer(volume: Any, path: Path, job: Job) -> dict[str, Any]:
    from occupy.io.atomic import make_folder

    make_folder(path.parent)
    write_map(path, volume, WHAT.get(path.stem.rpartition("_")[2], "from the viewer"))
    job.say(f"written to {path}")
    return {"file": str(path)}
