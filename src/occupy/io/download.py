"""Download a file so that it is whole under its final name, or not there at all.

Certificates are always checked. What has arrived of a file lies beside its target as ``<name>.part``, and
a note of which version it is of as ``<name>.part.json``; a later attempt, or a later run, continues there.
"""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import os
import re
import ssl
import time
import urllib.error
import urllib.request
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from io import FileIO
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

from occupy.errors import DownloadError, OutputError

DownloadProgress = Callable[[str, int, int | None], None]

_logger = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-[0-9]+/([0-9]+|\*)")
_HEADER_TEXT = re.compile(r"[ -~]+")  # printable ASCII: what may go back into a request header
_PLAIN_TEXT = re.compile(r"[!-~]+")  # ASCII without blanks: nothing that could break a request line
_LOCAL_HOSTS = ("localhost", "127.0.0.1")
_TRANSIENT_CAUSES = (
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
    TimeoutError,
    ssl.SSLError,
    http.client.HTTPException,
)


class NotFoundError(DownloadError):
    """The archive has no such file."""


class DamagedError(DownloadError):
    """A file arrived and is not what it should be."""


class _TransientError(DownloadError):
    """Worth another try."""


@dataclass(frozen=True)
class Connection:
    """How to talk to a server.

    Parameters
    ----------
    opener : OpenerDirector
        From `build_opener`.
    timeout : float
        Seconds without any data after which a connection counts as lost.
    retries : int
        How often a file is tried again after a lost connection or a server's error.
    progress : callable
        Called as ``progress(label, done_bytes, total_bytes)``; the total is None if unknown.
    """

    opener: urllib.request.OpenerDirector
    timeout: float
    retries: int
    progress: DownloadProgress


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Parameters
    ----------
    name : str
        What error messages call it.
    url : str
        Where it comes from.
    target : Path
        Its final name.
    part : Path
        Its name while unfinished, in the same folder.
    check : callable
        Called as ``check(part, progress)`` on the whole file; raises `DamagedError` if it is not good.
    limit : int, optional
        Size in bytes above which it cannot be what was asked for.
    """

    name: str
    url: str
    target: Path
    part: Path
    check: Callable[[Path, DownloadProgress], None]
    limit: int | None = None

    @property
    def note(self) -> Path:
        """Which version of the archive's file the part is of."""
        return self.part.with_name(f"{self.part.name}.json")

    def discard(self) -> None:
        """Forget what has arrived."""
        with disk_errors(self.part.parent):
            self.part.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)

    def download(self, link: Connection) -> None:
        """Bring one file to its final name, whole and checked, or raise.

        Parameters
        ----------
        link : Connection
            How to reach it.

        Raises
        ------
        NotFoundError
            If the server has no such file.
        DamagedError
            If `job.check` refused what arrived; nothing of it is kept.
        DownloadError
            If the server cannot be reached or trusted; what has arrived is kept for the next attempt.
        OutputError
            If the folder cannot be written.
        """
        try:
            _transfer(self, link)
            self.check(self.part, link.progress)
        except DamagedError as error:
            self.discard()
            raise DamagedError(f"{self.name}: {self.url} is damaged and was not kept: {error}") from error
        with disk_errors(self.target.parent):
            self.part.replace(self.target)
            self.note.unlink(missing_ok=True)


def is_trusted_address(url: str) -> bool:
    """Tell whether a URL is https, or http to this very computer.

    Parameters
    ----------
    url : str
        The address.

    Returns
    -------
    bool
        False also for what is no URL at all.
    """
    if not _PLAIN_TEXT.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # the port is parsed here only
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _LOCAL_HOSTS))


def build_opener(base_url: str) -> urllib.request.OpenerDirector:
    """Make the object that opens URLs: certificates checked, redirections only to trusted addresses.

    Parameters
    ----------
    base_url : str
        Root of all addresses to come.

    Returns
    -------
    OpenerDirector
        It honours the usual proxy variables, except for this very computer.
    """
    handlers: list[urllib.request.BaseHandler] = [
        _SafeRedirect(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
    ]
    if urlsplit(base_url).hostname in _LOCAL_HOSTS:  # no proxy stands between a computer and itself
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    """Follow the archive elsewhere only if that is as safe."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any
    ) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError as error:  # from the parsing of the address
            if fp:
                fp.close()
            raise DownloadError(f"{req.full_url} points to what is no address ({error})") from error

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not is_trusted_address(newurl):
            fp.close()
            raise DownloadError(f"{req.full_url} points to {newurl}, which is not https; it was not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system says into one line; keep network calls out of this block.

    Parameters
    ----------
    folder : Path
        The folder to name.

    Raises
    ------
    OutputError
        For any OSError inside the block.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise _disk_error(folder, error) from error


def _disk_error(folder: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    return OutputError(
        f"cannot use the cache folder {folder}: {reason} (another one can be named in OCCUPY_CACHE)"
    )


@contextmanager
def exclusive(folder: Path, name: str) -> Iterator[str]:
    """Make a folder and keep other downloads out of it.

    Parameters
    ----------
    folder : Path
        The folder, made if missing.
    name : str
        What to call it while waiting.

    Yields
    ------
    str
        The ending for unfinished files.

    Notes
    -----
    The kernel drops the lock when a process dies, so there are no stale ones. Where there are no such
    locks (Windows, some cluster file systems), a private ending keeps processes apart, without resume.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("ab", buffering=0)
    with handle:
        yield ".part" if _wait_for_lock(handle, folder, name) else f".{uuid.uuid4().hex}.part"


def _wait_for_lock(handle: FileIO, folder: Path, name: str) -> bool:
    try:
        import fcntl
    except ImportError:
        return False
    told = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                _logger.warning("%s: waiting for another download into %s", name, folder)
                told = True
            time.sleep(0.1)
        except OSError:
            return False
        else:
            return True


def check_gzip(path: Path, progress: DownloadProgress) -> None:
    """Unpack a whole gzip file, keeping nothing, so that its checksum is compared.

    Parameters
    ----------
    path : Path
        The file.
    progress : callable
        Told how much of it has been read.

    Raises
    ------
    DamagedError
        If it is empty, cut short, or not gzip.
    """
    with disk_errors(path.parent):
        raw = path.open("rb")
        total = os.fstat(raw.fileno()).st_size
    if total == 0:  # to the gzip module an empty file is a valid one
        raw.close()
        raise DamagedError("it is empty")
    label = f"checking {path.stem}"  # without the .part
    with raw, gzip.GzipFile(fileobj=raw) as stream:
        while _unpacks_on(stream, path.parent):
            progress(label, raw.tell(), total)


def _unpacks_on(stream: gzip.GzipFile, folder: Path) -> bool:
    try:
        return bool(stream.read(1 << 20))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DamagedError(f"not a whole gzip file ({error})") from error
    except OSError as error:
        raise _disk_error(folder, error) from error


def _transfer(job: RemoteFile, link: Connection) -> None:
    """Complete the part, trying again where that can help."""
    for attempt in range(link.retries + 1):
        try:
            return _attempt(job, link)
        except _TransientError as error:
            _logger.info("%s: %s (attempt %d)", job.url, error, attempt + 1)
            last = error
        if attempt < link.retries:
            time.sleep(0.5 * 2**attempt)
    raise DownloadError(
        f"{job.name}: download of {job.url} failed: {last} (attempts: {link.retries + 1}); "
        "run the same again to continue"
    ) from last


@dataclass(frozen=True)
class _Resume:
    """Where to continue: bytes there, bytes in all, and what tells one version of a file from the next."""

    done: int
    total: int | None
    validator: str


def _attempt(job: RemoteFile, link: Connection) -> None:
    """Complete the part by one request, or raise."""
    resume = _resume_point(job)
    headers = {"User-Agent": "occupy"}
    if resume is not None:
        if resume.done == resume.total:  # stopped between the last byte and the check
            return
        headers |= {"Range": f"bytes={resume.done}-", "If-Range": resume.validator}
    with _open(job, link, headers) as response:
        if resume is not None and response.status == HTTPStatus.PARTIAL_CONTENT:
            done, total = resume.done, _total_of_rest(job, response, resume)
        else:
            done, total = 0, response.length
            _begin_part(job, response)
        done = _receive(job, link, response, done, total)
    if total is not None and done != total:
        raise _TransientError(f"the connection closed after {done} of {total} bytes")


def _resume_point(job: RemoteFile) -> _Resume | None:
    """Read what an earlier attempt left; None means to start afresh."""
    with disk_errors(job.part.parent):
        try:
            done = job.part.stat().st_size
            note = json.loads(job.note.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
    if not isinstance(note, dict) or note.get("url") != job.url or done == 0:
        return None
    total, validator = note.get("total"), note.get("validator")
    if not (
        isinstance(total, int | None) and isinstance(validator, str) and _HEADER_TEXT.fullmatch(validator)
    ):
        return None
    return None if total is not None and done > total else _Resume(done, total, validator)


def _begin_part(job: RemoteFile, response: http.client.HTTPResponse) -> None:
    etag = response.headers.get("ETag", "")
    if etag.startswith("W/"):  # a weak one does not promise the same bytes
        etag = ""
    validator = etag or response.headers.get("Last-Modified", "")
    note = {"url": job.url, "total": response.length, "validator": validator}
    with disk_errors(job.part.parent):
        job.part.write_bytes(b"")  # before the note: an old part must not pass for this version
        job.note.write_text(json.dumps(note), encoding="utf-8")


def _total_of_rest(job: RemoteFile, response: http.client.HTTPResponse, resume: _Resume) -> int | None:
    """Make sure that this is the range asked for; return the size of the whole file."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is not None and int(match[1]) == resume.done:
        total = resume.total if match[2] == "*" else int(match[2])
        if resume.total in (None, total):
            return total
    job.discard()
    raise _TransientError("the server sent another range of bytes than asked for")


def _receive(
    job: RemoteFile, link: Connection, response: http.client.HTTPResponse, done: int, total: int | None
) -> int:
    """Append what arrives to the part; return the bytes it then has."""
    folder = job.part.parent
    link.progress(job.target.name, done, total)
    with disk_errors(folder):
        handle = job.part.open("ab", buffering=0)  # so that closing cannot fail
    with handle:
        while chunk := _read_chunk(response, done):
            done += len(chunk)
            if job.limit is not None and done > job.limit:
                raise DamagedError(f"it is larger than {job.limit >> 20} MB")
            with disk_errors(folder):
                _write_all(handle, chunk)
            link.progress(job.target.name, done, total)
    return done


def _write_all(handle: FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:  # an unbuffered file may take less than it is given
        rest = rest[handle.write(rest) :]


def _read_chunk(response: http.client.HTTPResponse, done: int) -> bytes:
    try:
        return response.read1(1 << 18)
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"the connection was lost after {done} bytes ({error})") from error


def _open(job: RemoteFile, link: Connection, headers: dict[str, str]) -> http.client.HTTPResponse:
    request = urllib.request.Request(job.url, headers=headers)
    try:
        return cast(http.client.HTTPResponse, link.opener.open(request, timeout=link.timeout))
    except urllib.error.HTTPError as error:
        error.close()
        raise _status_error(job, error) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise _connection_error(job, error) from error


def _status_error(job: RemoteFile, error: urllib.error.HTTPError) -> DownloadError:
    if error.code in (404, 410):
        return NotFoundError(f"{job.name}: not in the archive ({job.url})")
    reason = " ".join(str(error.reason).split())  # urllib's own, on circular redirections, has several lines
    answer = f"the server answered {error.code} {reason}"
    if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        job.discard()
        return _TransientError(answer)
    if error.code >= 500 or error.code in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS):
        return _TransientError(answer)
    return DownloadError(f"{job.name}: {answer} to {job.url}")


def _connection_error(job: RemoteFile, error: Exception) -> DownloadError:
    cause: Any = error.reason if isinstance(error, urllib.error.URLError) else error
    host = urlsplit(job.url).hostname
    if isinstance(cause, ssl.SSLCertVerificationError):
        return DownloadError(
            f"{job.name}: the certificate of {host} is not valid ({cause.verify_message}); this was not "
            "ignored and nothing was downloaded. Check the clock of this computer; if your network inspects "
            "https, name its certificate file in SSL_CERT_FILE"
        )
    if not isinstance(cause, _TRANSIENT_CAUSES):
        return DownloadError(f"{job.name}: cannot reach {host} ({cause}); is this computer online?")
    return _TransientError(f"the connection failed ({str(cause) or type(cause).__name__})")
