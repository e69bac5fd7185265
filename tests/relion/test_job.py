"""The External job as a process: RELION is told how it ended, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import occupy
from occupy.io.mrc import write_map
from occupy.io.star import read_star
from occupy.relion import job as job_module
from occupy.relion.job_files import _ENDINGS, _exit_file
from occupy.volume import Volume

JOB = "External/job001/"


def small_map(path: Path) -> None:
    z, y, x = np.indices((32,) * 3) - 15.5
    rng = np.random.default_rng(0)
    data = np.where(z**2 + y**2 + x**2 < 80, 1 + 0.3 * rng.standard_normal((32,) * 3), 0)
    write_map(path, Volume.from_array((data + 0.05 * rng.standard_normal(data.shape)).astype("f4"), 3.0, "m"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project folder with a map, and a pipe that looks like a map on which a job waits for ever."""
    small_map(tmp_path / "m.mrc")
    os.mkfifo(tmp_path / "slow.mrc")
    (tmp_path / JOB).mkdir(parents=True)
    # RELION starts jobs in the project's folder: what lies there must not be taken for our program.
    (tmp_path / "occupy").mkdir()
    (tmp_path / "occupy" / "__init__.py").write_text("raise SystemExit('not this one')\n")
    return tmp_path


def start(project: Path, *words: Any, **more: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(occupy.__file__).parents[1])}
    command = [sys.executable, "-P", "-m", "occupy.relion.job", *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **more,
    )


def run(project: Path, *words: Any) -> tuple[int, str]:
    job = start(project, *words)
    text, _ = job.communicate(timeout=60)
    return job.returncode, text


def endings(folder: Path) -> list[str]:
    return [ending for ending in _ENDINGS if _exit_file(folder, ending).exists()]


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


def workers(job: int) -> list[int]:
    """Return the running processes that the job started, other than the one that keeps watch."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == job and state != "Z" and b"occupy\0estimate" in command:
            found.append(int(path.parent.name))
    return found


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def waiting(project: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Return a job whose worker waits for ever, and the worker."""
    job = start(project, "--o", JOB, "--in_3dref", "slow.mrc", "--j", 1)
    worker = wait_for(lambda: workers(job.pid))[0]
    yield job, worker
    if job.poll() is None:
        job.kill()
    assert job.stdout is not None
    job.stdout.close()
    job.wait()


def test_a_map(project: Path) -> None:
    folder = project / JOB
    for name in ("RELION_JOB_EXIT_FAILURE", "RELION_JOB_ABORT_NOW", "RELION_OUTPUT_NODES.star"):
        (folder / name).write_text("stale")
    (folder / "old.json").write_text('{"outputs": {"scale": "m.mrc", "x": "../../../etc/x.mrc"}}')
    os.utime(folder / "old.json", (0, 0))
    words = ["--in_3dref", "m.mrc", "--j", 2, "--amplify", 3, "--plot", "no", "--pipeline_control", JOB]
    code, text = run(project, "--o", JOB, *words)
    assert code == 0, text
    assert endings(folder) == ["SUCCESS"]
    assert not (folder / "RELION_JOB_ABORT_NOW").exists()
    nodes = read_star(folder / "RELION_OUTPUT_NODES.star")["output_nodes"]
    assert [row[1:] for row in nodes.rows] == [
        ("6", "DensityMap.mrc", "1"),
        ("7", "Mask3D.mrc", "1"),
        *[("6", "DensityMap.mrc", "1")] * 3,  # amplified, occupancy, its uncertainty
    ]
    names = nodes.column("rlnPipeLineNodeName")
    assert all(name.startswith(JOB) and (project / name).stat().st_size for name in names)
    assert "lowest confident scale" in text
    assert not list(folder.glob(".*"))


def test_exit_files_go_where_relion_looks(project: Path) -> None:
    code, text = run(project, "--o", JOB, "--in_3dref", "missing.mrc", "--pipeline_control", "control/")
    assert code == 1, text
    assert endings(project / "control") == ["FAILURE"]


# One for each place where a mistake is noticed; the others are in test_arguments.py.
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--in_3dref", "m.mrc", "--no_such_option", "1"], "--no-such-option"),
        (["--in_3dref", "m.mrc", "--output", "/etc"], "not for an External job"),
        (["--model_star", "none_model.star"], "none_model.star"),
    ],
)
def test_mistakes_are_failures(project: Path, words: list[str], said: str) -> None:
    code, text = run(project, "--o", JOB, *words)
    assert code == 1
    assert said in text
    assert "Traceback" not in text
    assert endings(project / JOB) == ["FAILURE"]
    assert not (project / JOB / "RELION_OUTPUT_NODES.star").exists()


def test_relion_asks_to_abort(project: Path, waiting: tuple[subprocess.Popen[str], int]) -> None:
    job, worker = waiting
    (project / JOB / "RELION_JOB_ABORT_NOW").touch()
    job.wait(30)
    assert endings(project / JOB) == ["ABORTED"]
    assert not (project / JOB / "RELION_JOB_ABORT_NOW").exists()
    assert gone(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_killed(project: Path, waiting: tuple[subprocess.Popen[str], int], number: int) -> None:
    job, worker = waiting
    # Schedulers end the whole group.
    os.killpg(job.pid, number)
    job.wait(30)
    wait_for(lambda: endings(project / JOB))
    assert endings(project / JOB) == ["FAILURE"]
    wait_for(lambda: gone(worker))


def test_a_signal_while_the_worker_starts_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[subprocess.Popen[bytes]] = []
    usual = subprocess.Popen

    def started(*words: Any, **how: Any) -> subprocess.Popen[bytes]:
        made.append(usual([sys.executable, "-c", "import time; time.sleep(600)"], **how))
        os.kill(os.getpid(), signal.SIGTERM)
        return made[0]

    handlers = {
        n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU)
    }
    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(
        job_module.Guard, "start", lambda _: SimpleNamespace(tell=lambda _: None, dismiss=lambda: None)
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.mrc").touch()
    try:
        assert job_module._run_job(["--o", "External/job001/", "--in_3dref", "m.mrc"]) == 1
    finally:
        for n, handler in handlers.items():
            signal.signal(n, handler)
        alive = made[0].poll() is None
        made[0].kill()
        made[0].wait()
    assert not alive
    assert endings(tmp_path / "External/job001") == ["FAILURE"]


@pytest.mark.parametrize("number", [signal.SIGSEGV])
def test_the_worker_crashes(project: Path, waiting: tuple[subprocess.Popen[str], int], number: int) -> None:
    job, worker = waiting
    os.kill(worker, number)
    text, _ = job.communicate(timeout=30)
    assert job.returncode == 1
    assert f"code -{int(number)}" in text
    assert endings(project / JOB) == ["FAILURE"]


def test_a_full_disk(project: Path) -> None:
    disk = project / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        code, text = run(project, "--o", "disk/job/", "--in_3dref", "m.mrc", "--amplify", 3)
        assert code == 1
        assert "no space left" in text
        assert endings(disk / "job") == ["FAILURE"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_no_folder(project: Path) -> None:
    code, text = run(project, "--in_3dref", "m.mrc")
    assert code == 1
    assert "--o" in text
    code, text = run(project, "--help")
    assert code == 0
    assert "model_star" in text


# --- within RELION ---

PIPELINE = """
# version 30001

data_pipeline_general

_rlnPipeLineJobCounter                       1

"""
PROGRAM = f"""#!/bin/sh
PYTHONPATH={Path(occupy.__file__).parents[1]} exec {sys.executable} -P -m occupy.relion.job "$@"
"""


@pytest.mark.parametrize(("input_map", "status"), [("m.mrc", "2"), ("broken.mrc", "3")])
def test_in_relions_pipeline(project: Path, relion: Callable[..., Any], input_map: str, status: str) -> None:
    (project / JOB).rmdir()
    (project / "default_pipeline.star").write_text(PIPELINE)
    (project / "broken.mrc").write_bytes(b"no map")
    program = project / "occupy-relion-job"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    options = {
        "fn_exe": "./occupy-relion-job",
        "in_3dref": input_map,
        "param1_label": "amplify",
        "param1_value": "3",
        "nr_threads": "1",
    }
    text = ";".join(f"{key} == {value}" for key, value in options.items())
    relion("relion_pipeliner", "--addJob", "External", "--addJobOptions", text, cwd=project)
    relion("relion_pipeliner", "--RunJobs", JOB, "--schedule", "test", "--sec_wait_after", 1, cwd=project)
    pipeline = read_star(project / "default_pipeline.star")
    assert endings(project / JOB) == [{"2": "SUCCESS", "3": "FAILURE"}[status]]
    assert pipeline["pipeline_processes"].column("rlnPipeLineProcessStatus") == (status,)
    nodes = pipeline["pipeline_nodes"]
    found = dict(zip(nodes.column("rlnPipeLineNodeName"), nodes.column("rlnPipeLineNodeType"), strict=True))
    if status == "2":
        kinds = dict.fromkeys(("m_scale.mrc", "m_occupancy.mrc", "m_uncertainty.mrc", "m_amplified.mrc"), "6")
        kinds |= {"m_confidence.mrc": "7", "logfile.pdf": "13"}
        assert found == {"m.mrc": "6"} | {JOB + name: kind for name, kind in kinds.items()}
        assert "lowest confident scale" in (project / JOB / "run.out").read_text()
    else:
        assert "broken.mrc" in (project / JOB / "run.err").read_text()
