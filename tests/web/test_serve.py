"""How the viewer is started: where its address can be seen, and by whom."""

from __future__ import annotations

import os
import pty
import re
import select
import stat
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import url2pathname, urlopen

import pytest

import occupy
from occupy.web.security import Access, private_folder, write_door

pytest.importorskip("uvicorn")

PYTHON = [sys.executable, "-m", "occupy", "view"]


def environment(**changed: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("SSH_CONNECTION", "XDG_RUNTIME_DIR")}
    return kept | {"PYTHONPATH": str(Path(occupy.__file__).parents[1])} | changed


def wait_until_it_answers(told: str) -> None:
    """Wait until a viewer listens to signals; where tests run in the background, Ctrl-C before is lost."""
    with pytest.raises(HTTPError) as refused:
        urlopen(re.findall(r"http://\S+?/", told)[0], timeout=20)
    refused.value.close()


def test_h06_the_browser_is_started_with_a_private_file_and_no_token(
    shelf_folder: Path, tmp_path: Path
) -> None:
    seen, told = tmp_path / "seen", tmp_path / "told"
    browser = tmp_path / "browser"
    script = f"tr '\\0' ' ' < /proc/$$/cmdline > {seen}.part\nmv {seen}.part {seen}\n"
    browser.write_text(f"#!/bin/sh\n{script}")
    browser.chmod(0o755)
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    said = environment(DISPLAY=":0", BROWSER=str(browser), XDG_RUNTIME_DIR=str(runtime))
    with told.open("w") as stream:
        process = subprocess.Popen(
            [*PYTHON, str(shelf_folder), "--port", "0"], env=said, stdin=subprocess.DEVNULL, stdout=stream
        )
    try:
        for _ in range(2000):
            if seen.exists():
                break
            time.sleep(0.01)
        words = seen.read_text()
        assert "token" not in words
        assert "token" not in Path(f"/proc/{process.pid}/cmdline").read_text()
        page = Path(url2pathname(urlsplit(next(w for w in words.split() if w.startswith("file:"))).path))
        assert page.is_relative_to(runtime)
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
        inside = re.findall(r"token=([\w-]+)", page.read_text())
        printed = re.findall(r"token=([\w-]+)", told.read_text())
        # Each lets in once, so one must not use up the other.
        assert len(inside) == len(printed) == 1
        assert inside != printed
        wait_until_it_answers(told.read_text())
    finally:
        process.send_signal(2)
        assert process.wait(20) == 0
    assert not page.exists()


def test_h06_no_folder_of_somebody_else_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o755)
    for runtime in (str(open_to_all), str(tmp_path / "missing"), ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        with private_folder() as folder:
            assert not Path(folder).is_relative_to(open_to_all)
            assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
            door = write_door(Path(folder), "http://127.0.0.1:1/?token=x")
            with pytest.raises(FileExistsError):
                write_door(Path(folder), "http://127.0.0.1:1/?token=y")
            assert "token=x" in door.read_text()


def test_h06_enter_gives_another_address(shelf_folder: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PYTHON, str(shelf_folder), "--port", "0", "--no-browser"],
        env=environment(), stdin=theirs, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        assert "press Enter" in lines[2]
        os.write(ours, b"\n")
        assert select.select([process.stdout], [], [], 20)[0]
        lines.append(process.stdout.readline())
        codes = [re.search(r"token=(\S+)", lines[n]) for n in (1, 3)]
        assert codes[0] is not None
        assert codes[1] is not None
        assert codes[0][1] != codes[1][1]
        wait_until_it_answers(lines[1])
    finally:
        process.send_signal(2)
        assert process.wait(20) == 0
        process.stdout.close()
        os.close(ours)
        os.close(theirs)


def test_codes_are_compared_whole() -> None:
    access = Access()
    code = access.new_code()
    for wrong in ("", code[:-1], code + "x", "é", "\ud800"):
        assert not access.use(wrong)
    assert access.use(code)
    assert not access.use(code)
