"""`occupy classes --scheduler`: the same passes on a Dask cluster, and what is said where there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from occupy.io.mrc import write_map
from occupy.simulation import Processing, demo_structure, simulate_classes
from occupy.volume import Volume

MAPS = 10


def needs_dask():
    pytest.importorskip("distributed", reason="needs the extra dask")


@pytest.fixture(scope="module")
def maps(tmp_path_factory) -> Path:
    """Return a folder of maps of a few compositions, each in noise of its own."""
    folder = tmp_path_factory.mktemp("maps")
    parts = [{"G": 1.0, "A": 0.0}, {"G": 0.0, "A": 1.0}, {"G": 0.4, "A": 1.0}]
    made = simulate_classes(
        demo_structure(),
        parts,
        voxel_size=4.0,
        resolution=9.0,
        signal_to_noise=20.0,
        noise_colour=0.0,
        processing=Processing(),
        seed=1,
    )
    rng = np.random.default_rng(5)
    for k in range(MAPS):
        one = made.classes[k % len(parts)]
        data = one.map + 0.1 * one.map.std() * rng.standard_normal(one.map.shape)
        write_map(folder / f"m{k:02d}.mrc", Volume.from_array(data.astype(np.float32), one.voxel_size))
    return folder


def spawn(*words: object, **more) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more
    )


class Cluster:
    """A scheduler and two workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        note = folder / "scheduler.json"
        quiet = ("--no-dashboard",)
        dask = ("-m", "distributed.cli.dask_scheduler")
        self.scheduler = spawn(
            *dask, "--scheduler-file", note, "--port", 0, "--host", "127.0.0.1", *quiet, cwd=folder
        )
        wait_for(note.exists)
        wait_for(lambda: bool(note.read_text()))
        self.address = json.loads(note.read_text())["address"]
        words = ("-m", "distributed.cli.dask_worker", self.address, "--nthreads", 1, "--no-nanny", *quiet)
        self.workers = [spawn(*words, "--local-directory", folder, cwd=folder) for _ in range(2)]

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def wait_for(done, seconds: float = 90.0) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    needs_dask()
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "occupy_set.json"
    }


def test_a_worker_killed_on_the_way_changes_nothing(cluster, cli, maps, work, tmp_path):
    words = ("classes", maps, "--quiet", "--no-components")
    assert cli(*words, "-o", tmp_path / "here", "--threads", 2).code == 0
    out = tmp_path / "there"
    there = ("-m", "occupy", *words, "-o", out, "--scheduler", cluster.address)
    run = subprocess.Popen([sys.executable, *map(str, there)], stderr=subprocess.PIPE)
    # Something was done by both, and much is left to do.
    wait_for(lambda: (out / ".occupy-scratch" / "03").exists() or run.poll() is not None)
    assert run.poll() is None, run.stderr.read().decode()
    cluster.workers[0].send_signal(signal.SIGKILL)
    said = run.communicate(timeout=120)[1].decode()
    assert run.returncode == 0, said
    assert "Traceback" not in said
    here, made = files_of(tmp_path / "here"), files_of(out)
    assert sorted(here) == sorted(made)
    assert [name for name in here if here[name] != made[name]] == []


def test_what_is_wrong_with_a_cluster_is_said_in_one_line(cluster, maps):
    from distributed import Client

    from occupy.errors import InputError, OccupyError
    from occupy.io import cluster as ours

    folder = maps.parent / "scratch"
    absent = folder / "elsewhere.mrc"
    with (
        pytest.raises(InputError, match=r"can't see .*elsewhere\.mrc: all workers must share"),
        ours.cluster(cluster.address, [absent], folder, print),
    ):
        pass
    with Client(cluster.address, set_as_default=False) as client:
        pool = ours.DaskExecutor(client)
        assert list(pool.each(divmod, 17, 0)) == []
        with pytest.raises(ZeroDivisionError):
            list(pool.each(divmod, 17, 3))
        with pytest.raises(FileNotFoundError):
            list(pool.each(os.open, "nowhere", 1))
        cluster.scheduler.kill()
        with pytest.raises(OccupyError, match=r"connection to the scheduler was lost.*--resume"):
            list(pool.each(pow, 1, 2))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere"])
def test_nobody_answers(cli, maps, work, the_error, address, monkeypatch):
    needs_dask()
    monkeypatch.setattr("occupy.io.cluster.PATIENCE", 1)
    said = the_error(cli("classes", maps, "-o", "o", "--quiet", "--scheduler", address))
    assert f"--scheduler {address}: no Dask scheduler answers there" in said
    assert list(work.iterdir()) == []


def test_without_dask(cli, maps, work, the_error, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    said = the_error(cli("classes", maps, "-o", "o", "--quiet", "--scheduler", "tcp://127.0.0.1:1"))
    assert "--scheduler needs Dask: pip install 'occupy-em[dask]'" in said
    assert list(work.iterdir()) == []
