"""A file that changes while it is open closes its scene with one line, and nothing else happens."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest_browser import Occupy
from occupy.errors import InputError
from occupy.io.mrc import read_map, read_source
from standin_set import write_set

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from occupy.web.scene import Limits
from occupy.web.shelf import ArrayCache, ClosedError, Shelf, WatchedFiles
from occupy.web.viewer import Viewer


def rewritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-4:] = b"\x00\x00\x80\x3f"
    path.write_bytes(data)


def replaced(path: Path) -> None:
    other = path.with_name("other.mrc")
    shutil.copy2(path, other)
    other.replace(path)


CHANGES: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: os.truncate(path, 2048),
    "rewritten": rewritten,
    "replaced": replaced,
    "removed": Path.unlink,
}


@pytest.fixture
def copied(tmp_path: Path, shelf_folder: Path) -> Path:
    """Return a map of its own in a folder of its own."""
    folder = tmp_path / "v"
    folder.mkdir()
    shutil.copy(shelf_folder / "blob.mrc", folder / "m.mrc")
    return folder / "m.mrc"


@pytest.fixture
def looking(copied: Path) -> Any:
    made = Viewer(Shelf.of(copied.parent))
    yield made
    made.close()


def opened(viewer: Viewer, finished: Any, name: str = "m.mrc") -> int:
    job = finished(viewer, viewer.open({"path": name}))
    assert job["state"] == "done", job["error"]
    return int(job["result"]["scene"])


@pytest.mark.parametrize("change", CHANGES)
def test_h02_a_map_that_changes_closes_its_scene(
    looking: Viewer, finished: Any, copied: Path, change: str
) -> None:
    shutil.copy(copied, copied.with_name("stays.mrc"))
    number, other = opened(looking, finished), opened(looking, finished, "stays.mrc")
    CHANGES[change](copied)
    for ask in (looking.describe, looking.mesh, looking.estimate):
        with pytest.raises(ClosedError, match=r"^m.mrc (was changed|is not there any more).*closed"):
            ask({"id": number, "level": 1.0})
    assert [scene["id"] for scene in looking.state({})["scenes"]] == [other]
    assert looking.values({"id": other, "z": 1, "y": 1, "x": 1, "layers": "input"})


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ENODEV, errno.EIO])
def test_h02_a_disk_that_goes_away_closes_the_scene(
    looking: Viewer, finished: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    number = opened(looking, finished)

    def gone(path: Path, **_: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "stat", gone)
    with pytest.raises(ClosedError, match=r"m.mrc cannot be reached any more") as caught:
        looking.describe({"id": number})
    assert os.strerror(code).lower() in str(caught.value)


def test_h02_a_map_that_changes_while_it_is_read(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: Path, **options: Any) -> Any:
        found = read_source(path, **options)
        rewritten(path)
        return found

    monkeypatch.setattr("occupy.web.shelf.read_source", slow)
    with pytest.raises(ClosedError, match="was changed"):
        WatchedFiles().read(copied)


def test_h02_the_server_stays_up_when_an_open_map_is_cut_short(copied: Path) -> None:
    import http.client

    running = Occupy(str(copied.parent))

    def ask(method: str, path: str, said: Any = None, cookie: str = "") -> tuple[Any, int, bytes]:
        connection = http.client.HTTPConnection(running.place, timeout=20)
        body = None if said is None else json.dumps(said)
        connection.request(method, path, body, {"content-type": "application/json", "cookie": cookie})
        answer = connection.getresponse()
        held = answer.headers, answer.status, answer.read()
        connection.close()
        return held

    try:
        cookie = ask("GET", "/" + running.address().split("/", 3)[3])[0]["set-cookie"].split(";")[0]
        job = json.loads(ask("POST", "/api/open", {"path": "m.mrc"}, cookie)[2])["job"]
        state: dict[str, Any] = {"state": "running"}
        while state["state"] in ("waiting", "running"):
            state = json.loads(ask("GET", f"/api/job?job={job}", cookie=cookie)[2])
        scene = state["result"]["scene"]
        os.truncate(copied, 2048)
        for _ in range(2):
            asked = f"/api/slices?id={scene}&axis=0&index=40&layers=input"
            _, status, body = ask("GET", asked, cookie=cookie)
            assert status == 410
            assert json.loads(body)["closed"] == str(scene)
            assert "m.mrc was changed while it was open" in json.loads(body)["error"]
        assert ask("GET", "/api/state", cookie=cookie)[1] == 200
    finally:
        assert running.stop() == (0, "")


@pytest.mark.parametrize("name", ["occupy_set.json", "composite.mrc", "class_001_occupancy.mrc"])
def test_h02_a_set_whose_files_change_is_closed(
    looking: Viewer, finished: Any, copied: Path, name: str
) -> None:
    folder = write_set(copied.parent / "classes")
    number = opened(looking, finished, "classes")
    asked = {"id": number, "axis": 0, "index": 1, "layers": "composite,occupancy:0"}
    looking.slices(asked)
    os.truncate(folder / name, 1100 if name.endswith(".mrc") else 10)
    with pytest.raises(ClosedError, match=f"^{name} was changed"):
        looking.slices(asked)
    assert looking.state({})["scenes"] == []
    assert looking.cache.bytes == 0


def test_h02_a_result_is_closed_when_another_run_writes_into_its_folder(
    looking: Viewer, finished: Any, copied: Path
) -> None:
    from occupy.cli import main

    words = ["estimate", str(copied), "-o", str(copied.parent / "res"), "--quiet"]
    assert main.run(words) == 0
    number = opened(looking, finished, "res")
    assert main.run([*words, "--lowpass", "12"]) == 0
    # Also if the first layer looked at is one that nobody had read before.
    with pytest.raises(ClosedError, match="was changed"):
        looking.values({"id": number, "z": 1, "y": 1, "x": 1, "layers": "uncertainty"})


def test_scenes_looked_at_longest_ago_make_room(copied: Path, finished: Any) -> None:
    for name in ("b.mrc", "c.mrc"):
        shutil.copy(copied, copied.with_name(name))
    viewer = Viewer(Shelf.of(copied.parent), limits=Limits(scenes=1 << 40, layers=0))
    first, second = opened(viewer, finished), opened(viewer, finished, "b.mrc")
    one = viewer.scenes.get(second).memory
    assert one >= 4 * read_map(copied).data.nbytes  # input, low-passed, scale, confidence
    viewer.scenes.limit = int(2.5 * one)
    viewer.describe({"id": first})
    third = opened(viewer, finished, "c.mrc")
    with pytest.raises(ClosedError, match=r"b.mrc was closed to make room for c.mrc"):
        viewer.describe({"id": second})
    assert [scene["id"] for scene in viewer.state({})["scenes"]] == [first, third]
    viewer.close()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), max_size=60), st.integers(0, 120))
def test_a_cache_stays_below_its_limit_and_gives_what_was_made(
    asked: list[tuple[int, int]], limit: int
) -> None:
    cache, last = ArrayCache(limit), 0
    for key, size in asked:
        found = cache.get((key, size), lambda key=key, size=size: np.full(size, key, np.uint8))  # type: ignore[misc]
        assert found.tolist() == [key] * size
        last = size
        assert cache.bytes <= max(limit, last)
        assert cache.get((key, size), lambda: np.zeros(0)) is found


def test_jobs_that_wait_are_limited(looking: Viewer) -> None:
    import threading

    from occupy.web.jobs import MOST_WAITING

    go = threading.Event()
    try:
        for _ in range(MOST_WAITING):
            looking.jobs.start("waits", lambda job: {"went": go.wait(20)})
        with pytest.raises(InputError, match="jobs are waiting"):
            looking.jobs.start("one more", lambda job: {})
    finally:
        go.set()
