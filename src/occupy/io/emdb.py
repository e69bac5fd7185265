"""Maps, half-maps and header facts from the Electron Microscopy Data Bank.

An entry that is in the cache is used without touching the network; see `occupy.io.download` for what is
promised about everything else.
"""

from __future__ import annotations

import logging
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from occupy.errors import DownloadError, InputError, OutputError
from occupy.io.download import (
    Connection,
    DamagedError,
    DownloadProgress,
    NotFoundError,
    RemoteFile,
    build_opener,
    check_gzip,
    disk_errors,
    exclusive,
    is_trusted_address,
)

__all__ = ["EmdbEntry", "fetch", "looks_like_entry_id", "normalise_entry_id"]

DEFAULT_BASE_URL = "https://ftp.ebi.ac.uk/pub/databases/emdb/structures"

_logger = logging.getLogger(__name__)

_ENTRY_ID = re.compile(r"\s*(EMD[-_]?)?0*([1-9][0-9]{0,5})\s*", re.IGNORECASE)
_CONTOUR_PATHS = (
    "map/contour_list/contour[@primary='true']/level",
    "map/contour_list/contour/level",
    "map/contourLevel",
)
_RESOLUTION_PATHS = (".//final_reconstruction/resolution", ".//resolution", ".//resolutionByAuthor")
_TITLE_PATHS = ("admin/title", "deposition/title")
_HEADER_LIMIT_BYTES = 32 << 20  # real headers are well below 1 MB


@dataclass(frozen=True)
class EmdbEntry:
    """What is known of one EMDB entry, and where its files are.

    Parameters
    ----------
    entry_id : str
        Identifier such as ``'EMD-3061'``.
    map_path : Path
        The deposited (primary) map, gzip-compressed MRC.
    half_map_paths : tuple of Path
        Both half-maps, or empty if they were not asked for or not deposited.
    contour_level : float or None
        The depositors' contour level, in the map's grey values.
    resolution : float or None
        Resolution by author, in Å.
    title : str or None
        Title of the entry.
    """

    entry_id: str
    map_path: Path
    half_map_paths: tuple[Path, ...]
    contour_level: float | None
    resolution: float | None
    title: str | None


def normalise_entry_id(text: str) -> str:
    """Write an EMDB identifier the way the archive does.

    Parameters
    ----------
    text : str
        ``'EMD-3061'``, ``'emd_3061'``, ``'EMD3061'`` or a bare ``'3061'``.

    Returns
    -------
    str
        ``'EMD-3061'``. The archive writes at least four digits, so ``'EMD-1'`` becomes ``'EMD-0001'``.

    Raises
    ------
    InputError
        If `text` is no EMDB identifier.
    """
    match = _ENTRY_ID.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is not an EMDB entry; expected something like EMD-3061")
    return f"EMD-{int(match[2]):04d}"


def looks_like_entry_id(text: str) -> bool:
    """Tell whether a command-line argument names an EMDB entry.

    Parameters
    ----------
    text : str
        The argument.

    Returns
    -------
    bool
        True for ``'EMD-3061'`` and its spellings; False for a bare number, which could be a file.
    """
    match = _ENTRY_ID.fullmatch(text)
    return match is not None and match[1] is not None


def fetch(
    entry: str,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    half_maps: bool = False,
    base_url: str | None = None,
    progress: DownloadProgress | None = None,
    timeout: float = 30.0,
    retries: int = 3,
) -> EmdbEntry:
    """Bring an EMDB entry into the cache, downloading only what is not there yet.

    Parameters
    ----------
    entry : str
        Identifier in any spelling `normalise_entry_id` knows.
    cache_dir : path-like, optional
        Folder that holds one folder per entry. Default ``$OCCUPY_CACHE/emdb``, else
        ``$XDG_CACHE_HOME/occupy/emdb``, else ``~/.cache/occupy/emdb``.
    half_maps : bool
        Also fetch both half-maps, if they were deposited.
    base_url : str, optional
        Root of the archive. Default ``$OCCUPY_EMDB_URL``, else the EBI's. Must be https, except on this
        computer.
    progress : callable, optional
        Called as ``progress(label, done_bytes, total_bytes)``; the total is None if the server does not say.
    timeout : float
        Seconds without any data after which a connection counts as lost.
    retries : int
        How often a file is tried again (and resumed) after a lost connection or a server's error.

    Returns
    -------
    EmdbEntry
        Paths in the cache, and what the header says.

    Raises
    ------
    InputError
        If `entry`, `base_url`, `timeout` or `retries` makes no sense.
    DownloadError
        If the archive has no such entry, cannot be reached or trusted, or sent damaged data.
    OutputError
        If the cache cannot be written.

    Notes
    -----
    What has arrived of a file stays beside its target as ``<name>.part`` when a download breaks off, also
    on Ctrl-C, and the next call continues from there if the archive's file is still the same. That an
    entry has no half-maps or no header is remembered too; delete its folder to ask again.
    """
    entry_id = normalise_entry_id(entry)
    if not (math.isfinite(timeout) and timeout > 0):
        raise InputError(f"timeout must be a positive number of seconds, not {timeout!r}")
    if retries < 0:
        raise InputError(f"retries must not be negative, not {retries!r}")
    given = base_url or os.environ.get("OCCUPY_EMDB_URL") or DEFAULT_BASE_URL
    base = given.rstrip("/")
    if not is_trusted_address(base):
        raise InputError(f"archive address {given!r} is refused: it must start with https:// and name a host")
    root = Path(cache_dir) if cache_dir is not None else _default_cache_dir()
    layout = _Layout(entry_id, root / entry_id, base)
    with disk_errors(layout.folder):
        cached = layout.is_complete(half_maps)
    if not cached:
        link = Connection(build_opener(base), timeout, retries, progress or (lambda *_: None))
        with exclusive(layout.folder, layout.entry_id) as part_suffix:
            _download_missing(layout, link, half_maps, part_suffix)
    return _describe(layout, half_maps)


@dataclass(frozen=True)
class _Layout:
    """Names of one entry's files, in the archive and in the cache."""

    entry_id: str
    folder: Path
    base_url: str

    @property
    def map_path(self) -> Path:
        return self.folder / f"emd_{self.entry_id[4:]}.map.gz"

    @property
    def header_path(self) -> Path:
        return self.folder / f"emd-{self.entry_id[4:]}.xml"

    @property
    def half_map_paths(self) -> tuple[Path, Path]:
        stem = f"emd_{self.entry_id[4:]}_half_map"
        return self.folder / f"{stem}_1.map.gz", self.folder / f"{stem}_2.map.gz"

    @property
    def no_header(self) -> Path:
        return self.folder / "no_header"

    @property
    def no_half_maps(self) -> Path:
        return self.folder / "no_half_maps"

    def url(self, subfolder: str, path: Path) -> str:
        return f"{self.base_url}/{self.entry_id}/{subfolder}/{path.name}"

    def has_header(self) -> bool:
        return self.header_path.is_file() or self.no_header.is_file()

    def has_half_maps(self) -> bool:
        return self.no_half_maps.is_file() or all(path.is_file() for path in self.half_map_paths)

    def is_complete(self, half_maps: bool) -> bool:
        return self.map_path.is_file() and self.has_header() and (not half_maps or self.has_half_maps())


def _default_cache_dir() -> Path:
    if own := os.environ.get("OCCUPY_CACHE"):
        return Path(own) / "emdb"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():  # the XDG specification: a relative one is to be ignored
        return xdg / "occupy" / "emdb"
    try:
        return Path.home() / ".cache" / "occupy" / "emdb"
    except RuntimeError:
        raise OutputError("no home folder for the cache; name a folder in OCCUPY_CACHE") from None


def _download_missing(layout: _Layout, link: Connection, half_maps: bool, part_suffix: str) -> None:
    """Download what another process has not brought while this one waited for the lock."""

    def job(subfolder: str, path: Path) -> RemoteFile:
        part = path.with_name(path.name + part_suffix)
        return RemoteFile(layout.entry_id, layout.url(subfolder, path), path, part, check_gzip)

    if not layout.map_path.is_file():
        map_job = job("map", layout.map_path)
        try:
            map_job.download(link)
        except NotFoundError as error:
            raise DownloadError(f"{layout.entry_id}: no such entry in the archive ({map_job.url})") from error
    if not layout.has_header():
        header_job = job("header", layout.header_path)
        _download_header(replace(header_job, check=_check_header, limit=_HEADER_LIMIT_BYTES), layout, link)
    if half_maps and not layout.has_half_maps():
        try:
            for path in layout.half_map_paths:
                if not path.is_file():
                    job("other", path).download(link)
        except NotFoundError:
            _mark(layout.no_half_maps)


def _download_header(job: RemoteFile, layout: _Layout, link: Connection) -> None:
    try:
        job.download(link)
    except NotFoundError:
        _mark(layout.no_header)
    except DamagedError as error:
        # Only the contour level, resolution and title are lost, and the next fetch asks for it again.
        _logger.warning("%s", error)


def _mark(marker: Path) -> None:
    with disk_errors(marker.parent):
        marker.touch()


def _describe(layout: _Layout, half_maps: bool) -> EmdbEntry:
    header = _read_header(layout.header_path)
    halves = layout.half_map_paths if half_maps and not layout.no_half_maps.is_file() else ()
    return EmdbEntry(
        layout.entry_id, layout.map_path, halves, header.contour_level, header.resolution, header.title
    )


@dataclass(frozen=True)
class _Header:
    """What is used of an entry's header."""

    contour_level: float | None = None
    resolution: float | None = None
    title: str | None = None


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuse a document type, and with it entities, before any of it is read."""

    def doctype(self, *_: object) -> None:
        raise DamagedError("it declares a document type, which an EMDB header does not")


def _check_header(path: Path, _: DownloadProgress) -> None:
    with disk_errors(path.parent):
        data = path.read_bytes()
    _parse_header(data)


def _read_header(path: Path) -> _Header:
    try:
        with disk_errors(path.parent):
            return _parse_header(path.read_bytes()) if path.is_file() else _Header()
    except DamagedError as error:
        _logger.warning("%s is not used: %s", path, error)
        return _Header()


def _parse_header(data: bytes) -> _Header:
    """Read a header of schema 3 (``emd``), or of 1.9 (``emdEntry``) as older mirrors have."""
    if len(data) > _HEADER_LIMIT_BYTES:
        raise DamagedError(f"it is larger than {_HEADER_LIMIT_BYTES >> 20} MB")
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DamagedError(f"its XML cannot be read ({error})") from error
    if root.tag.rpartition("}")[2].lower() == "html":  # a proxy's own page
        raise DamagedError("it is a web page")
    # Only the main map's contour: half-maps, masks and additional maps have their own further down.
    level = _number(root, *_CONTOUR_PATHS)
    resolution = _number(root, *_RESOLUTION_PATHS)
    title = " ".join(_text(root, *_TITLE_PATHS).split())
    return _Header(level, resolution if resolution and resolution > 0 else None, title or None)


def _text(root: ElementTree.Element, *paths: str) -> str:
    """Text of the first element found at one of the paths, if any."""
    for path in paths:
        found = root.find(path)
        if found is not None and found.text:
            return found.text
    return ""


def _number(root: ElementTree.Element, *paths: str) -> float | None:
    try:
        value = float(_text(root, *paths))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
