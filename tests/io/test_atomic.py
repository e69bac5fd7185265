"""A final name never holds half a file, and what went wrong is said in one line."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import occupy
from occupy.errors import OutputError
from occupy.io import mrc
from occupy.io.atomic import atomic_file, discard_unfinished, explain, make_folder, write_text
from occupy.io.mrc import open_writer, read_map, write_map
from occupy.volume import Volume

SOURCE = Path(occupy.__file__).parents[1]
VOLUME = Volume.from_array(np.arange(60, dtype=np.float32).reshape(3, 4, 5), 1.5)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def one_line(error, *parts):
    text = str(error)
    assert "\n" not in text
    assert "[Errno" not in text
    for part in parts:
        assert str(part) in text


def test_the_file_appears_when_complete(tmp_path):
    final = tmp_path / "a.txt"
    with atomic_file(final) as part:
        part.write_text("half")
        assert not final.exists()
        assert part.parent == tmp_path  # the same file system, so that the move is one step
        assert part.name.startswith(".")
    assert final.read_text() == "half"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("earlier", [None, "earlier content"])
@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing_but_what_was_there(tmp_path, earlier, kind):
    final = tmp_path / "a.txt"
    if earlier is not None:
        final.write_text(earlier)
    with pytest.raises(kind), atomic_file(final) as part:  # noqa: PT012
        part.write_text("half")
        raise kind("stop")
    assert names(tmp_path) == ([] if earlier is None else ["a.txt"])
    assert earlier is None or final.read_text() == earlier


def test_success_replaces_an_earlier_file(tmp_path):
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "zwölf Å")
    assert (tmp_path / "a.txt").read_bytes() == "zwölf Å".encode()
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert os.umask(umask) == umask  # left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~umask


def test_a_missing_folder_is_named(tmp_path):
    final = tmp_path / "nowhere" / "a.mrc"
    with pytest.raises(OutputError) as caught:
        write_map(final, VOLUME)
    one_line(caught.value, final, f"no folder {final.parent}")


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "a.mrc").mkdir()
    with pytest.raises(OutputError) as caught:
        write_map(tmp_path / "a.mrc", VOLUME)
    one_line(caught.value, tmp_path / "a.mrc", "in the way")
    assert names(tmp_path) == ["a.mrc"]


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(OutputError) as caught:
        make_folder(tmp_path / "out")
    one_line(caught.value, tmp_path / "out", "in the way")
    with pytest.raises(OutputError) as caught:
        make_folder(tmp_path / "out" / "deeper")
    one_line(caught.value, "in the way")
    with pytest.raises(OutputError) as caught:
        write_text(tmp_path / "out" / "a.txt", "x")
    one_line(caught.value, "in the way")
    assert (tmp_path / "out").read_text() == "I am a file"


def test_folders_are_made_with_their_parents(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "permission denied"),
        (errno.EISDIR, "in the way"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_errors_of_the_system_are_explained(number, words):
    error = explain(OSError(number, os.strerror(number)), Path("results/scale.mrc"))
    one_line(error, words, "results/scale.mrc")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permission denied"):
        write_text(tmp_path / "a.txt", "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(tmp_path):
    """The kernel's own 'no space left', from a device that is always full."""
    final = tmp_path / "a.txt"
    final.write_text("earlier")
    with pytest.raises(OutputError) as caught, atomic_file(final):
        Path("/dev/full").write_bytes(b"x" * 100_000)
    one_line(caught.value, "no space left", final)
    assert final.read_text() == "earlier"
    assert names(tmp_path) == ["a.txt"]


class FullAfter:
    """A stream on which only so many bytes fit."""

    def __init__(self, stream, room):
        self._stream, self._room = stream, room

    def write(self, data):
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._stream.write(data)

    def __getattr__(self, name):
        return getattr(self._stream, name)


@pytest.mark.parametrize("room", [0, 1024, 1100, 1024 + 240])
def test_a_disk_that_fills_while_a_map_is_written(tmp_path, monkeypatch, room):
    writer = mrc._MapWriter
    monkeypatch.setattr(mrc, "_MapWriter", lambda stream, *a, **b: writer(FullAfter(stream, room), *a, **b))
    with pytest.raises(OutputError, match="no space left") as caught:
        write_map(tmp_path / "a.mrc", VOLUME)
    one_line(caught.value, tmp_path / "a.mrc")
    assert names(tmp_path) == []


WRITE_FOR_EVER = """
import resource, signal, sys, time
import numpy as np
from occupy.errors import OutputError
from occupy.io.mrc import open_writer
from occupy.volume import Volume

volume = Volume.from_array(np.zeros((64, 64, 64), np.float32), 1.0)
path, how = sys.argv[1:]
if how == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with open_writer(path, volume) as writer:
        for start in range(0, 64, 8):
            writer.write_planes(start, volume.data[start : start + 8])
            if how == "kill" and start == 32:
                print("half", flush=True)
                time.sleep(60)
except OutputError as error:
    print(error)
    sys.exit(1)
"""


def start(path, how):
    return subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(path), how],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_program_leaves_no_half_map(tmp_path, earlier, how):
    final = tmp_path / "scale.mrc"
    if earlier:
        write_map(final, VOLUME)
    before = final.read_bytes() if earlier else None
    process = start(final, "kill")
    said = process.stdout.readline()
    process.send_signal(how)
    process.communicate(timeout=20)
    assert said == "half\n"
    assert process.returncode == -how
    assert (final.read_bytes() if final.exists() else None) == before
    left = [name for name in names(tmp_path) if name != final.name]
    assert all(name.startswith(".") and name.endswith(".part") for name in left)


def test_a_limit_of_file_size_is_one_line(tmp_path):
    process = start(tmp_path / "scale.mrc", "limit")
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert output == f"cannot write {tmp_path / 'scale.mrc'}: {os.strerror(errno.EFBIG)}\n"
    assert names(tmp_path) == []


def test_a_map_interrupted_between_slabs_keeps_the_earlier_one(tmp_path):
    final = tmp_path / "a.mrc"
    write_map(final, VOLUME)
    with pytest.raises(ZeroDivisionError), open_writer(final, VOLUME) as writer:  # noqa: PT012
        writer.write_planes(0, VOLUME.data[:1] * 0)
        raise ZeroDivisionError
    np.testing.assert_array_equal(read_map(final).data, VOLUME.data)
    assert names(tmp_path) == ["a.mrc"]


def test_what_was_begun_in_a_folder_is_removed_when_asked(tmp_path):
    (tmp_path / "other").mkdir()
    with atomic_file(tmp_path / "other" / "kept") as kept:
        waiting = atomic_file(tmp_path / "begun")
        part = waiting.__enter__()
        assert part.exists()
        discard_unfinished(tmp_path)
        assert not part.exists()
        assert kept.exists()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["kept"]


ABANDON = """
import os, signal, sys
from pathlib import Path
from occupy.io.atomic import atomic_file

with atomic_file(Path(sys.argv[1])) as part:
    part.write_text("half")
    print(part.name, flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def begun(path, then):
    """Start a process that begins to write a file, and return it with the name of the unfinished file."""
    process = subprocess.Popen(
        [sys.executable, "-c", ABANDON, str(path), then],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def forgotten(monkeypatch):
    """Let this process be as one that has written nothing yet."""
    monkeypatch.setattr("occupy.io.atomic._swept", set())


@pytest.mark.skipif(os.name != "posix", reason="locks as POSIX has them")
def test_m12_what_killed_runs_left_is_removed_and_what_living_ones_write_is_not(tmp_path, monkeypatch):
    dead, left = begun(tmp_path / "scale.mrc", "die")
    dead.communicate(timeout=20)
    alive, begun_name = begun(tmp_path / "other.mrc", "live")
    # The living one has removed what the dead one left; put it back, as an older version leaves it.
    assert not (tmp_path / left).exists()
    (tmp_path / left).write_text("half")
    (tmp_path / ".mine.part").write_text("of another program")
    (tmp_path / "notes.12345678.part").write_text("of another program")
    forgotten(monkeypatch)
    write_text(tmp_path / "a.txt", "x")
    kept = {".mine.part", "notes.12345678.part", "a.txt"}
    assert set(names(tmp_path)) == kept | {begun_name}
    alive.communicate("", timeout=20)
    assert set(names(tmp_path)) == kept | {"other.mrc"}


def test_a_folder_is_looked_through_once(tmp_path, monkeypatch):
    forgotten(monkeypatch)
    write_text(tmp_path / "a.txt", "x")
    (tmp_path / ".b.12345678.part").write_text("half")
    write_text(tmp_path / "c.txt", "x")
    assert names(tmp_path) == [".b.12345678.part", "a.txt", "c.txt"]


def test_a_file_taken_for_a_left_over_is_made_again(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    flock, taken = fcntl.flock, []

    def swept(descriptor, how):
        if not taken:
            taken.extend(tmp_path.glob(".*.part"))
            taken[0].unlink()
        flock(descriptor, how)

    monkeypatch.setattr("occupy.io.atomic.fcntl.flock", swept)
    write_text(tmp_path / "a.txt", "x")
    assert taken
    assert names(tmp_path) == ["a.txt"]


def test_where_there_are_no_locks_nothing_is_removed(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")

    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("occupy.io.atomic.fcntl.flock", none)
    forgotten(monkeypatch)
    (tmp_path / ".b.12345678.part").write_text("half")
    write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == [".b.12345678.part", "a.txt"]
