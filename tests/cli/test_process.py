"""`occupy` as a process: start, silence, pipes, signals, terminals that know little."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from occupy._version import __version__
from occupy.cli.console import _rate_text
from occupy.io.mrc import write_map
from occupy.volume import Volume

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and pipes as POSIX has them")
COMMANDS = (
    "estimate",
    "modify",
    "mask",
    "mask subtraction",
    "mask solvent",
    "classes",
    "regions",
    "fetch",
    "demo",
    "simulate",
    "relion",
    "relion class3d-command",
    "relion class3d-report",
    "legacy",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(cli, command):
    for flag in ("--help", "-h"):
        said = cli(*command.split(), flag)
        assert (said.code, said.err) == (0, "")
        assert f"occupy {command}" in " ".join(said.out.split())


def test_help_and_version(cli):
    general = cli("--help")
    assert general.code == 0
    for command in ("estimate", "modify", "mask", "classes", "regions", "fetch", "demo", "simulate"):
        assert f"\n  {command} " in general.out
    assert "legacy" not in general.out
    assert cli().out == general.out
    assert cli("--version").out == f"occupy {__version__}\n"


def test_help_says_what_an_option_means(cli):
    said = " ".join(cli("estimate", "--help").out.split())
    for words in (
        "--tile-size N|LENGTH",
        "--amplify",
        "default: 9 Å (nlf and local: 8 Å) or 3 voxels, the larger",
        "--target-mask",
    ):
        assert words in said


def imported_by(program, *words):
    """Return the modules that a command line leaves imported."""
    code = (
        "import sys\nfrom occupy.cli.main import run, _with_command\n"
        "code = run(_with_command(sys.argv[1:]))\nprint('\\n', *sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=program.environment({}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    return set(done.stdout.split("\n")[-2].split())


def test_help_imports_nothing_heavy(program):
    extras = {"starlette", "uvicorn", "anywidget", "distributed", "dask", "pipeliner", "cryosparc", "napari"}
    for words in (("--help",), ("estimate", "--help"), ("cryosparc", "--help"), ("--version",)):
        modules = imported_by(program, *words)
        assert "occupy.cli.app" in modules
        heavy = {"numpy", "scipy", "matplotlib", "gemmi", "mrcfile", "yaml", "ssl", "urllib.request"}
        assert not modules & (heavy | extras)


def test_an_estimate_imports_only_what_it_needs(program, blob, work):
    modules = imported_by(program, blob, "--lowpass", 12, "--amplify", 3)
    assert "occupy.calibration" in modules
    # Start-up is half of a small map's run: masked arrays alone are 8 ms of it.
    assert not modules & {"numpy.ma", "secrets", "occupy.regions.table", "occupy.io.star", "occupy.requests"}
    modules = imported_by(program, blob, "--estimator", "local", "--amplify", 3, "--match-histogram")
    assert "occupy.pipeline" in modules
    assert not modules & {
        "matplotlib",
        "scipy",
        "gemmi",
        "urllib.request",
        "ssl",
        "xml.etree",
        "occupy.io.emdb",
    }
    assert (work / "occupy_blob" / "blob_amplified.mrc").exists()


def test_a_run_from_start_to_end(program, blob, work):
    done = program(blob, "--amplify", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("blob.mrc\n  full scale")
    silent = program(blob, "--amplify", 3, "--quiet")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    failed = program("none.mrc")
    assert (failed.returncode, failed.stdout, failed.stderr) == (
        1, "", "occupy: error: none.mrc: no such file\n",
    )  # fmt: skip


def test_quiet_is_quiet_about_warnings_too(program, masked, work):
    silent = program(masked, "--quiet", "--plot")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    said = program(masked)
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("occupy: warning: masked.mrc: ")


@POSIX
def test_a_closed_pipe_gives_no_traceback(program, blob, masked, work):
    process = program.start(blob, masked, PYTHONUNBUFFERED="1")
    assert process.stdout.readline() == "blob.mrc\n"
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    process.wait(30)
    assert "Traceback" not in error
    assert "BrokenPipe" not in error
    assert "our mistake" not in error
    assert (work / "occupy_blob" / "blob_occupy.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_does_not_know_every_letter(program, blob, work, encoding):
    (work / "µ Å.mrc").write_bytes(blob.read_bytes())
    done = program(
        "µ Å.mrc", "--estimator", "local", PYTHONIOENCODING=encoding, PYTHONUTF8="0", PYTHONUNBUFFERED="1"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "26 ? at x, y, z" in done.stdout.replace("�", "?")
    assert (work / "occupy_µ Å" / "µ Å_occupy.json").exists()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Return a map large enough that a run over it can be stopped in the middle."""
    rng = np.random.default_rng(2)
    z, y, x = np.ogrid[:160, :160, :160]
    ball = (z - 80) ** 2 + (y - 80) ** 2 + (x - 80) ** 2 < 45**2
    data = ball + 0.1 * rng.standard_normal((160,) * 3, dtype=np.float32)
    path = tmp_path_factory.mktemp("large") / "large.mrc"
    write_map(path, Volume.from_array(data, 1.5, "large"))
    return path


def parts(folder):
    return list(folder.glob(".*.part"))


def run_until_it_writes(program, large, work):
    """Start a run and halt it when there is something in its maps and none is finished."""
    process = program.start(
        large, "-o", "out", "--amplify", 3, "--attenuate", 3, "--sigmoid", 3, "--threads", 1
    )
    for _ in range(30000):
        begun = parts(work / "out")
        if len(begun) == 7 and any(part.stat().st_size for part in begun):
            # Halted, it can't finish while a busy machine keeps us waiting.
            process.send_signal(signal.SIGSTOP)
            assert len(parts(work / "out")) == 7
            return process
        assert process.poll() is None
        time.sleep(0.001)
    raise AssertionError("nothing was written")


def stop(process, number):
    """Send a signal to a halted run, and let it go on."""
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)


@pytest.fixture
def hang_ups():
    """Let a hang-up end programs even where the tests were started by nohup, whose children ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@POSIX
@pytest.mark.usefixtures("hang_ups")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 128 + 15), ("SIGHUP", 128 + 1)])
def test_a_stopped_run_leaves_nothing_half_written(program, large, work, name, code):
    process = run_until_it_writes(program, large, work)
    stop(process, getattr(signal, name))
    out, error = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == ""
    if name == "SIGINT":
        assert error == "occupy: stopped; unfinished files were removed\n"
    else:
        assert error == ""
    assert not (work / "out").exists()


@POSIX
def test_a_killed_run_leaves_no_half_written_map_under_its_name(program, large, work):
    process = run_until_it_writes(program, large, work)
    process.kill()
    process.communicate(timeout=30)
    left = [p.name for p in (work / "out").iterdir()]
    assert left
    assert all(name.startswith(".") and name.endswith(".part") for name in left)


@POSIX
def test_stopped_while_repeating_keeps_the_earlier_maps_whole(program, cli, large, work):
    assert cli(large, "-o", "out", "--amplify", 2, "--quiet").code == 0
    before = {p.name: p.stat().st_mtime_ns for p in (work / "out").glob("*.mrc")}
    process = run_until_it_writes(program, large, work)
    stop(process, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert {p.name: p.stat().st_mtime_ns for p in (work / "out").glob("*.mrc")} == before
    assert (work / "out" / "large_occupy.json").exists()
    assert not parts(work / "out")


def test_ctrl_c_before_anything_started(cli, monkeypatch, blob, work):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("occupy.inputs.InputFiles.open", interrupted)
    said = cli(blob)
    assert (said.code, said.out) == (130, "")
    assert said.err.strip() == "occupy: stopped; unfinished files were removed"


@POSIX
def test_progress_is_drawn_on_a_terminal_and_taken_away(blob, work, program):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*program.command, str(blob)],
        env=program.environment({"TERM": "xterm", "COLUMNS": "100"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        encoding="utf-8",
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            shown += chunk
    except OSError:  # Linux: the other end has gone
        pass
    os.close(ours)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.startswith("blob.mrc\n")
    text = shown.decode()
    assert "blob" in text
    assert "\x1b[2K" in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("done", "seconds", "unit", "text"),
    [
        (0, 5.0, "maps", ""),
        (3, 0.1, "maps", ""),
        (20, 8.0, "maps", "2.5 maps/s"),
        (512, 2.0, "planes", "256 planes/s"),
        (30_000_000, 10.0, "B", "3.0 MB/s"),
    ],
)
def test_the_rate_that_is_shown(done, seconds, unit, text):
    assert _rate_text(done, seconds, unit) == text
