"""Damaged requests to the viewer, within this process and without a network; see fuzz.py."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import logging
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from occupy.io.mrc import write_map
from occupy.volume import Volume
from tools.fuzz_files import Rng, blob, damaged

TOKEN = "the-secret"
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**9, 1e308, 0.5, "", "x", "../..", "a" * 5000, "\ud800", "\x00", [], {}, [1],
    [["x"]], {"amplify": "x"}, {"lowpass": 1e9}, "input", "scale", "blob.mrc", "nan", "1e999",
)  # fmt: skip
HEADERS = (
    ("host", "http://["), ("host", "\xff"), ("origin", "http://["), ("origin", "null"), ("cookie", "=;=\xff"),
    ("content-length", "x"), ("content-length", "9" * 30), ("content-type", "text/html"),
    ("sec-fetch-site", "cross-site"),
)  # fmt: skip


class Requests:
    """The viewer of a folder, asked without a network."""

    def __init__(self, folder: Path) -> None:
        from occupy.web.app import ACTS, LOOKS, application
        from occupy.web.shelf import Shelf
        from occupy.web.viewer import Viewer

        shelf = folder / "shelf"
        shelf.mkdir()
        write_map(shelf / "blob.mrc", Volume.from_array(blob(32), 3.0, "blob"))
        importlib.import_module("standin_set").write_set(shelf / "classes")
        self.looks, self.acts = LOOKS, ACTS
        self.viewer = Viewer(Shelf.of(shelf))
        # Who may come in: a token, or what keeps tokens that are used once.
        keeper = "occupy.web.security"
        access: Any = importlib.import_module(keeper).Access() if find_spec(keeper) else TOKEN
        gate: Any = application(self.viewer, access)
        self.app = gate
        self.cookie = f"{gate.cookie}={getattr(access, 'secret', access)}"
        self.loop = asyncio.new_event_loop()
        self.mistakes = io.StringIO()
        logging.getLogger("occupy").addHandler(handler := logging.StreamHandler(self.mistakes))
        handler.setLevel(logging.ERROR)
        job = json.loads(self.ask("POST", "/api/open", "", {"path": "blob.mrc"})[2])["job"]
        for _ in range(2000):
            found = json.loads(self.ask("GET", "/api/job", f"job={job}")[2])
            if found["state"] not in ("waiting", "running"):
                break
            time.sleep(0.01)
        self.scene = found["result"]["scene"]

    def ask(
        self, method: str, path: str, query: str = "", body: object = None, **changed: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request; return status, headers and body."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {
            "host": "127.0.0.1:80",
            "content-type": "application/json",
            "content-length": str(len(raw)),
        }
        headers |= {"cookie": self.cookie} | changed
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
            "root_path": "",
            "method": method, "path": path, "raw_path": quote(path).encode(),
            "query_string": query.encode("latin-1", "replace"),
            "headers": [(k.encode(), v.encode("latin-1", "replace")) for k, v in headers.items()],
            "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        sent: list[Any] = []
        received: list[bool] = []

        async def receive() -> dict[str, Any]:
            if received:  # whoever asks again waits for the page to go away
                await asyncio.Event().wait()
            received.append(True)
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        self.loop.run_until_complete(self.app(scope, receive, send))
        answered = {k.decode().lower(): v.decode("latin-1") for k, v in sent[0]["headers"]}
        return sent[0]["status"], answered, b"".join(m.get("body", b"") for m in sent[1:])

    def __call__(self, rng: Rng, _: Path) -> None:
        """Send one damaged request."""
        looks = rng.random() < 0.6
        name = str(rng.choice(self.looks if looks else self.acts))
        said = self.said(rng)
        changed = dict([HEADERS[rng.integers(len(HEADERS))]]) if rng.random() < 0.1 else {}
        query = urlencode({k: str(v) for k, v in said.items()}, errors="replace") if looks else ""
        body: object = None if looks else said
        if rng.random() < 0.2:
            raw = damaged(rng, json.dumps(said).encode(), b"{}")
            query, body = (raw.decode("latin-1"), None) if looks else ("", raw)
        status, _headers, answer = self.ask(
            "GET" if looks else "POST", f"/api/{name}", query, body, **changed
        )
        if status >= 500 and status != 507:
            raise AssertionError(f"{status} to {name} {query or body!r} {changed}: {answer[:300]!r}")
        if status >= 400:
            text = json.loads(answer)["error"]
            if "\n" in text or "Traceback" in text:
                raise AssertionError(f"{name}: {text!r}")
        mistakes = self.mistakes.getvalue()
        self.mistakes.seek(0)
        self.mistakes.truncate()
        if mistakes:
            raise AssertionError(f"{name} {query or body!r}: {mistakes}")

    def said(self, rng: Rng) -> dict[str, Any]:
        """Return what a page could say, with some of it wrong."""
        said: dict[str, Any] = {
            "id": self.scene, "path": "blob.mrc", "axis": 0, "index": 9, "layers": "input", "level": 0.5,
            "z": 1, "y": 2, "x": 3, "source": "input", "colours": "scale", "job": 1, "kind": "solvent",
            "options": {}, "settings": {}, "quality": "fast", "dust": 0, "threshold": 0.2, "layer": "scale",
            "folder": "saved", "name": "n.mrc",
        }  # fmt: skip
        for name in rng.choice(list(said), rng.integers(1, 4)):
            if rng.random() < 0.3:
                said.pop(str(name), None)
            else:
                said[str(name)] = VALUES[rng.integers(len(VALUES))]
        return said

    def close(self) -> None:
        """End what is under way."""
        self.viewer.close()
        self.loop.close()
