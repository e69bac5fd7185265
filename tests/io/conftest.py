"""A small server on this computer that stands in for the EMDB archive; it can misbehave."""

from __future__ import annotations

import gzip
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from occupy.io import download

MAP = "/EMD-3061/map/emd_3061.map.gz"
HEADER = "/EMD-3061/header/emd-3061.xml"

# Bytes that do not compress, so that a cut falls well inside the file; fixed, so that runs are equal.
CONTENT = bytes((i * i * 7919 >> 5) % 251 for i in range(60_000))
PACKED = gzip.compress(CONTENT, mtime=0)

TLS = ssl.create_default_context()  # reading the certificates takes longer than a test; not used here

HEADER_XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<emd emdb_id="EMD-3061" version="3.0.1.2">
  <admin><title>gamma-secretase,
    apo</title></admin>
  <crossreferences><title>not this one</title></crossreferences>
  <structure_determination_list><structure_determination><singleparticle_processing>
    <final_reconstruction><resolution units="A" res_type="BY AUTHOR">3.4</resolution></final_reconstruction>
  </singleparticle_processing></structure_determination></structure_determination_list>
  <map format="CCP4"><contour_list>
    <contour primary="false"><level>0.5</level></contour>
    <contour primary="true"><level>0.041</level><source>AUTHOR</source></contour>
  </contour_list></map>
  <interpretation><half_map_list><half_map><contour_list>
    <contour primary="true"><level>9</level></contour>
  </contour_list></half_map></half_map_list></interpretation>
</emd>"""


@dataclass
class Fault:
    """One thing that goes wrong, once."""

    status: int | None = None
    cut_after: int | None = None
    extra_length: int = 0
    location: str = ""


@dataclass
class Archive:
    """The stand-in: what it holds, what goes wrong next, and what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: {MAP: PACKED, HEADER: HEADER_XML})
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    ranges: bool = True
    etag: str | None = '"v1"'
    range_shift: int = 0
    chunked: bool = False
    hold: threading.Event | None = None
    content: bytes = CONTENT
    packed: bytes = PACKED
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    def fail(self, path: str, **fault: Any) -> None:
        """Let the next request for this path go wrong; several calls line up."""
        self.faults.setdefault(path, []).append(Fault(**fault))

    def asked(self, path: str) -> list[tuple[str | None, str | None]]:
        return [(byte_range, if_range) for name, byte_range, if_range in self.requests if name == path]


class Handler(BaseHTTPRequestHandler):
    archive: Archive

    def do_GET(self) -> None:
        archive = self.archive
        archive.requests.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        if archive.hold is not None:
            archive.hold.wait(2)
        faults = archive.faults.get(self.path, [])
        fault = faults.pop(0) if faults else Fault()
        body = archive.files.get(self.path)
        if fault.status is not None or body is None:
            self.send_response(fault.status or 404)
            if fault.location:
                self.send_header("Location", fault.location)
            self.end_headers()
            return
        self.send_body(body, fault)

    def send_body(self, body: bytes, fault: Fault) -> None:
        start, archive = 0, self.archive
        if archive.ranges and self.headers["Range"] and self.headers["If-Range"] == archive.etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            first = start + archive.range_shift
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if archive.etag:
            self.send_header("ETag", archive.etag)
        rest = body[start:]
        if archive.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            sent = rest[: fault.cut_after]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent))
            if fault.cut_after is None:
                self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(rest) + fault.extra_length))
        self.end_headers()
        self.wfile.write(rest[: fault.cut_after])

    def log_message(self, *args: Any) -> None:
        """Keep the test output clean."""


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        """Say nothing when a client hangs up, which some tests are about."""


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    archive = Archive()
    handler = type("BoundHandler", (Handler,), {"archive": archive, "protocol_version": "HTTP/1.1"})
    server = QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    archive.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("OCCUPY_EMDB_URL", archive.url)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be used for this computer
    monkeypatch.setattr(ssl, "create_default_context", lambda: TLS)
    real_sleep = time.sleep
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=lambda _: real_sleep(0.005)))
    yield archive
    server.shutdown()
    thread.join()
    server.server_close()
