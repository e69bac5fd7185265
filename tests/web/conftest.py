"""A small map, a viewer, a server in this process, and a browser."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest

from conftest_browser import need
from occupy.io.mrc import write_map
from occupy.volume import Frame, Volume
from standin_set import write_set

SIDE, VOXEL = 48, 2.5
# Nothing that a careless reader would get right by luck.
FRAME = Frame(
    axes=(2, 3, 1), cell=(SIDE * VOXEL,) * 3, sampling=(SIDE,) * 3, nstart=(0, 0, 0), origin=(5.0, -20.0, 8.0)
)


def blob_volume() -> Volume:
    """Return a textured ball in noise, of half occupancy where x (columns) is low; odd frame."""
    rng = np.random.default_rng(1)
    s, r, c = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    texture = rng.standard_normal((SIDE,) * 3)
    for axis in range(3):
        texture = texture + np.roll(texture, 1, axis)
    inside = s**2 + r**2 + c**2 < (0.3 * SIDE) ** 2
    content = np.where(inside, np.where(c < 0, 0.5, 1.0), 0.0) * (1 + 0.3 * texture / texture.std())
    data = content + 0.05 * rng.standard_normal((SIDE,) * 3)
    return Volume(data.astype(np.float32), (VOXEL,) * 3, FRAME, "blob")


@pytest.fixture(scope="session")
def shelf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a map, a set, a model and a link that leads out."""
    root = tmp_path_factory.mktemp("view")
    folder = root / "shelf"
    folder.mkdir()
    write_map(folder / "blob.mrc", blob_volume())
    write_map(root / "outside.mrc", blob_volume())
    (folder / "link.mrc").symlink_to(root / "outside.mrc")
    (folder / "way_out").symlink_to(root)
    (folder / "notes.txt").write_text("not for the viewer")
    (folder / "broken.mrc").write_bytes(b"no map at all" * 100)
    write_set(folder / "classes")
    lines = ["HEADER    TEST"]
    for i in range(6):
        place = f"{60 + 3.8 * i:8.3f}{40.0:8.3f}{68.0:8.3f}"
        lines.append(f"ATOM  {i + 1:5d}  CA  ALA A{i + 1:4d}    {place}  1.00 20.00           C")
    (folder / "model.pdb").write_text("\n".join([*lines, "END"]) + "\n")
    return folder


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a simulated map, its model, and the model in a wrong frame."""
    from occupy.cli import main

    folder = tmp_path_factory.mktemp("demo")
    assert main.run(["demo", "-o", str(folder), "--quiet"]) == 0
    model = gemmi.read_structure(str(folder / "demo_model.cif"))
    for name, shift in (("shifted", (25.0, 0.0, 0.0)), ("far", (4000.0, 0.0, 0.0))):
        moved = model.clone()
        moved[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(), gemmi.Vec3(*shift)))
        moved.make_mmcif_document().write_file(str(folder / f"{name}.cif"))
    return folder


@pytest.fixture
def viewer(shelf_folder: Path) -> Iterator[Any]:
    """Return a viewer of the folder."""
    need("starlette")
    from occupy.web.shelf import Shelf
    from occupy.web.viewer import Viewer

    made = Viewer(Shelf.of(shelf_folder))
    yield made
    made.close()


@pytest.fixture(scope="session")
def finished() -> Any:
    """Return a function that waits for a job of a viewer and returns it."""

    def wait(viewer: Any, started: dict[str, Any]) -> dict[str, Any]:
        for _ in range(1500):
            job = viewer.job(started)
            if job["state"] not in ("waiting", "running"):
                return job
            time.sleep(0.01)
        raise AssertionError(f"still {job['stage']}")

    return wait


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Server:
    """A server under way in this process."""

    port: int
    cookie: str
    access: Any

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        *,
        cookie: bool | str = True,
        **headers: str,
    ) -> Answer:
        """Send one request; header names are written with _ for -."""
        fields = {k.replace("_", "-"): v for k, v in headers.items()}
        if cookie:
            fields["cookie"] = f"{self.cookie}={self.access.secret}" if cookie is True else cookie
        if body is not None:
            fields.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, fields)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="session")
def server(shelf_folder: Path) -> Iterator[Server]:
    """Return a server of the folder."""
    need("starlette")
    need("uvicorn")
    import uvicorn

    from occupy.web.app import application
    from occupy.web.security import Access
    from occupy.web.serve import listen
    from occupy.web.shelf import Shelf
    from occupy.web.viewer import Viewer

    made = Viewer(Shelf.of(shelf_folder))
    access = Access()
    gate: Any = application(made, access)
    sock = listen(0)
    running = uvicorn.Server(
        uvicorn.Config(gate, log_level="error", access_log=False, lifespan="off", ws="none")
    )
    thread = threading.Thread(target=running.run, kwargs={"sockets": [sock]})
    thread.start()
    yield Server(sock.getsockname()[1], gate.cookie, access)
    running.should_exit = True
    thread.join(10)
    sock.close()
    made.close()
