"""Small maps, and the command line called within this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import occupy
from occupy.cli import main
from occupy.io.mrc import read_map, write_map
from occupy.report.simulated import _write_class_set
from occupy.simulation import Processing, demo_structure, simulate_classes
from occupy.volume import Frame, Volume

SIDE = 40
VOXEL = 2.0


def blob_data(side: int = SIDE, seed: int = 1) -> np.ndarray:
    """Return a textured ball in noise; the half with x below the middle is half occupied."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((side,) * 3) - (side - 1) / 2
    ball = z**2 + y**2 + x**2 < (0.28 * side) ** 2
    texture = rng.standard_normal((side,) * 3)
    for axis in range(3):
        texture = texture + np.roll(texture, 1, axis)
    texture /= texture.std()
    content = np.where(ball, np.where(x < 0, 0.5, 1.0), 0.0) * (1 + 0.3 * texture)
    return (content + 0.05 * rng.standard_normal((side,) * 3)).astype(np.float32)


def blob_volume(seed: int = 1, side: int = SIDE, frame: Frame | None = None) -> Volume:
    if frame is None:
        return Volume.from_array(blob_data(side, seed), VOXEL, "blob")
    return Volume(blob_data(side, seed), (VOXEL,) * 3, frame, "blob")


# Nothing in it is what a careless writer would put there by itself.
FRAME = Frame(
    axes=(2, 3, 1),
    cell=(SIDE * VOXEL,) * 3,
    sampling=(SIDE,) * 3,
    nstart=(-7, 3, 11),
    origin=(5.5, -20.25, 8.0),
    space_group=1,
    labels=("made for a test",),
)


@dataclass(frozen=True)
class Said:
    """What a call of the command line gave."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return a function that calls the command line as `occupy` would."""

    def call(*words: Any) -> Said:
        arguments = [str(word) for word in words]
        monkeypatch.setattr("sys.argv", ["occupy", *arguments])
        capfd.readouterr()
        code = main.run(main._with_command(arguments))
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return call


class Program:
    """`occupy` as a process of its own."""

    # ChimeraX is meant to outlive the run, of which Python would warn.
    warnings = ("-W", "error", "-W", "ignore:subprocess:ResourceWarning")
    command = (sys.executable, *warnings, "-m", "occupy")

    def start(self, *words: Any, **environment: str) -> subprocess.Popen[str]:
        """Start it; SIGINT reaches it also where the tests' own process ignores that."""
        return subprocess.Popen(
            [*self.command, *map(str, words)],
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def __call__(self, *words: Any, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            [*self.command, *map(str, words)],
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
            check=False,
        )

    @staticmethod
    def environment(changed: dict[str, str]) -> dict[str, str]:
        # Absolute: the tests' PYTHONPATH may be relative to another folder.
        return os.environ | {"PYTHONPATH": str(Path(occupy.__file__).parents[1])} | changed


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is the current one."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a small map with a half-occupied half and an unusual frame."""
    path = tmp_path_factory.mktemp("maps") / "blob.mrc"
    write_map(path, blob_volume(frame=FRAME))
    return path


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a map whose solvent was set to zero."""
    volume = blob_volume(frame=FRAME)
    z, y, x = np.indices(volume.shape) - (SIDE - 1) / 2
    data = np.where(z**2 + y**2 + x**2 < (0.4 * SIDE) ** 2, volume.data, np.float32(0))
    path = tmp_path_factory.mktemp("maps") / "masked.mrc"
    write_map(path, volume.with_data(data))
    return path


@pytest.fixture(scope="session")
def half_mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a mask of the half-occupied half of `blob`."""
    z, y, x = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    mask = (z**2 + y**2 + x**2 < (0.25 * SIDE) ** 2) & (x < -2)
    path = tmp_path_factory.mktemp("maps") / "half.mrc"
    write_map(path, blob_volume(frame=FRAME).with_data(mask.astype(np.float32)))
    return path


@dataclass(frozen=True)
class Result:
    """The folder of an estimate."""

    folder: Path
    stem: str = "blob"

    @property
    def record(self) -> dict[str, Any]:
        def refuse(text: str) -> None:
            raise AssertionError(f"not strict JSON: {text}")

        text = (self.folder / f"{self.stem}_occupy.json").read_text(encoding="utf-8")
        return json.loads(text, parse_constant=refuse)

    def path(self, product: str) -> Path:
        return self.folder / f"{self.stem}_{product}.mrc"

    def __getitem__(self, product: str) -> np.ndarray:
        return read_map(self.path(product)).data

    @property
    def script(self) -> str:
        return (self.folder / f"{self.stem}.cxc").read_text(encoding="utf-8")

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def result() -> type[Result]:
    return Result


@pytest.fixture
def estimated(cli: Cli, blob: Path, work: Path) -> Callable[..., Result]:
    """Return a function that estimates `blob` with options, into a folder of its own each time."""
    count = 0

    def call(*options: Any) -> Result:
        nonlocal count
        count += 1
        folder = work / f"result{count}"
        said = cli("estimate", blob, "-o", folder, "--quiet", *options)
        assert (said.code, said.out, said.err) == (0, "", "")
        return Result(folder)

    return call


def body(path: Path) -> bytes:
    """Return a map file without mean and deviation, which threads sum up in any order."""
    raw = bytearray(path.read_bytes())
    raw[84:88] = raw[216:220] = bytes(4)
    return bytes(raw)


@pytest.fixture(name="body")
def _body() -> Callable[[Path], bytes]:
    return body


def the_error(said: Said) -> str:
    """Return the one line of a clear failure."""
    lines = said.err.splitlines()
    assert said.code != 0
    assert len(lines) == 1, said.err
    assert lines[0].startswith("occupy: error: ")
    assert "our mistake" not in lines[0]
    return lines[0].removeprefix("occupy: error: ")


@pytest.fixture(name="the_error")
def _the_error() -> Callable[[Said], str]:
    return the_error


PARTS = [{"G": 1.0, "A": 0.0}, {"G": 0.0, "A": 1.0}, {"G": 0.4, "A": 1.0}]


@pytest.fixture(scope="session")
def job(tmp_path_factory) -> Path:
    """Return a folder as a Class3D job leaves it, of three classes."""
    folder = tmp_path_factory.mktemp("job") / "Class3D"
    made = simulate_classes(
        demo_structure(),
        PARTS,
        weights=[0.5, 0.3, 0.2],
        voxel_size=4.0,
        resolution=9.0,
        signal_to_noise=20.0,
        noise_colour=0.0,
        processing=Processing(wiener=True, mask="sphere", tau2_fudge=2.0),
        seed=1,
    )
    _write_class_set(folder, made, {"seed": 1})
    return folder
