"""What tests with a browser share."""

from __future__ import annotations

import io
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import occupy

REQUIRED = os.environ.get("OCCUPY_REQUIRE_BROWSER") == "1"
# WebGL in software, nothing of the browser's own that would use the network.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]


def missing(reason: str) -> None:
    """Skip, or fail where the tests must run."""
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


def need(module: str) -> None:
    """Skip (or fail) where a package is not installed."""
    try:
        __import__(module)
    except ModuleNotFoundError:
        missing(f"needs the package {module}; install the extras web and dev")


class Occupy:
    """`occupy view` as a process of its own."""

    def __init__(self, *words: str, cwd: Path | None = None) -> None:
        paths = str(Path(occupy.__file__).parents[1])
        command = [sys.executable, "-m", "occupy", "view", *words, "--no-browser", "--port", "0"]
        # A terminal, where Enter asks for another address.
        self._keys, terminal = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": paths},
            # Where the tests run in the background, their children would ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert self.process.stdout is not None
        os.close(terminal)
        self.process.stdout.readline()
        self._address = self.process.stdout.readline().strip()
        assert self._address.startswith("http://127.0.0.1:"), self.stop()
        assert "press Enter" in self.process.stdout.readline()
        self.place = self._address.split("/")[2]

    def address(self) -> str:
        """Return an address, which lets one browser in."""
        if not self._address:
            assert self.process.stdout is not None
            os.write(self._keys, b"\n")
            return self.process.stdout.readline().strip()
        found, self._address = self._address, ""
        return found

    def stop(self) -> tuple[int, str]:
        """Stop it as Ctrl-C would; return exit code and what it said."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=20)
        os.close(self._keys)
        return self.process.returncode, said


def find_browser() -> str:
    """Return the system's Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    missing("needs Chromium (apt-get install chromium)")
    raise AssertionError


def coloured(png: bytes) -> tuple[int, int]:
    """Count clearly red and clearly blue pixels of a picture."""
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(png))[..., :3]
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return int(np.sum((red > blue + 0.25) & (red > green))), int(np.sum((blue > red + 0.15) & (blue > green)))


def missing_and_present(png: bytes) -> tuple[int, int]:
    """Count pixels in the colours of what is missing, and in the shaded warm neutral of what is present."""
    from matplotlib.image import imread

    pixels = imread(io.BytesIO(png))[..., :3]
    red, green, blue = np.moveaxis(pixels, -1, 0)
    neutral = (red >= green) & (green >= blue) & (red - blue > 0.02) & (red - blue < 0.13) & (red > 0.3)
    return int(np.sum((red > blue + 0.25) & (red > green))), int(neutral.sum())
