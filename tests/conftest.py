"""What all tests share: hypothesis' profile, the strategies, and the data that lie beside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).resolve().parent
# Test folders are no packages (importlib mode), so `import strategies` needs to be told where.
# `import benchmarks` needs the folder that holds it, however pytest was started.
for place in (HERE, HERE.parent):
    if str(place) not in sys.path:
        sys.path.append(str(place))

settings.register_profile(
    "occupy",
    deadline=None,
    derandomize=True,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("occupy")


def data_folder() -> Path:
    """Return where the shared data should lie: OCCUPY_SHARED_DATA, or ../shared/data."""
    return Path(os.environ.get("OCCUPY_SHARED_DATA") or HERE.parent.parent / "shared" / "data")


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from the name of a data set to the folder with its files."""
    unpacked: dict[str, Path] = {}
    folder = data_folder()

    def get(name: str) -> Path:
        if not (folder / f"{name}.tar.xz").exists():
            reason = f"needs the data set {name!r} in {folder}"
            if os.environ.get("OCCUPY_REQUIRE_DATA") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        if name not in unpacked:
            target = tmp_path_factory.mktemp("shared")
            subprocess.run([str(folder / "unpack"), str(target), name], check=True, timeout=300)
            unpacked[name] = target / name
        return unpacked[name]

    return get


@pytest.fixture(scope="session")
def relion() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a program of RELION in a folder; skip where RELION is not installed."""
    if shutil.which("relion_refine") is None:
        reason = "needs RELION (Debian: apt-get install relion)"
        if os.environ.get("OCCUPY_REQUIRE_RELION") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    def run(*words: object, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{words[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    return run
