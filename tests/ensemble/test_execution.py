"""Passes over maps: every place runs the same work to the same bits, and keeps what it is given."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from occupy.ensemble.execution import Execution, LocalExecutor, MemoryStorage
from occupy.ensemble.pipeline import SetEstimate, estimate_set
from occupy.errors import InputError, OutputError
from occupy.io.cluster import SCRATCH, _FolderStorage, scratch_storage

SHAPE = (3, 4, 5)


@pytest.fixture(params=["memory", "folder"])
def storage(request, tmp_path):
    return MemoryStorage(4, SHAPE) if request.param == "memory" else _FolderStorage(tmp_path / "s", 4, SHAPE)


def arrays(seed=0):
    return np.random.default_rng(seed).standard_normal((4, *SHAPE)).astype(np.float32)


def test_a_shelf_gives_back_what_it_was_given_by_map_and_by_voxel(storage):
    given = arrays()
    for k in (2, 0, 3, 1):
        storage[k] = given[k]
    assert len(storage) == 4
    for k in range(4):
        np.testing.assert_array_equal(storage[k], given[k])
        with pytest.raises(ValueError, match="read-only"):
            storage[k][...] = 0
    flat = given.reshape(4, -1)
    part = storage.span(7, 23)
    np.testing.assert_array_equal(part, flat[:, 7:23])
    part[...] = 0  # a copy
    np.testing.assert_array_equal(storage.span(0, 60), flat)
    storage.put_span(10, -flat[:, 10:30])
    flat[:, 10:30] *= -1
    np.testing.assert_array_equal(storage.span(0, 60), flat)
    storage.clear()
    assert len(storage) == 4


def test_a_shelf_can_be_filled_by_spans_alone(storage):
    flat = arrays(1).reshape(4, -1)
    for start in (40, 0, 20):
        storage.put_span(start, flat[:, start : start + 20])
    np.testing.assert_array_equal(storage[3].reshape(-1), flat[3])


def test_scratch_files_that_are_missing_cut_or_misshapen(tmp_path):
    storage = _FolderStorage(tmp_path, 2, SHAPE)
    with pytest.raises(InputError, match="all workers must see this folder"):
        storage[0]
    storage[0] = arrays()[0]
    (tmp_path / "000000").write_bytes(b"\0" * 8)
    with pytest.raises(InputError, match="cut short"):
        storage[0]
    with pytest.raises(ValueError, match="does not fit"):
        storage[0] = np.zeros((2, 2, 2), dtype=np.float32)
    storage.clear()
    with pytest.raises(OutputError, match="there is no folder"):
        storage[0] = arrays()[0]


def test_scratch_leaves_nothing_behind(tmp_path):
    out = tmp_path / "a" / "out"
    with scratch_storage(out) as storage:
        storage(2, SHAPE)[0] = arrays()[0]
        assert (out / SCRATCH).is_dir()
    assert not list(tmp_path.iterdir())
    left = out / SCRATCH / "01"
    left.mkdir(parents=True)
    (out / "result").touch()
    with scratch_storage(out):
        assert not left.exists()
    assert [path.name for path in out.iterdir()] == ["result"]


def noted(shared, k):
    lock, seen, barrier = shared
    with lock:
        seen.append(k)
    if barrier is not None:
        barrier.wait(10)
    return k * k


@pytest.mark.parametrize("threads", [1, 3])
def test_a_pool_yields_in_order(threads):
    seen = []
    # With three threads three calls have to be under way at once.
    shared = (threading.Lock(), seen, threading.Barrier(3) if threads == 3 else None)
    assert list(LocalExecutor(threads).each(noted, shared, 12)) == [k * k for k in range(12)]
    assert sorted(seen) == list(range(12))


def failing(shared, k):
    shared.append(k)
    if k == 3:
        raise InputError("the fourth")
    return k


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_ends_a_pass(threads):
    seen = []
    with pytest.raises(InputError, match="the fourth"):
        list(LocalExecutor(threads).each(failing, seen, 1000))
    assert len(seen) < 12


def draw(shared, k):
    return (np.random.default_rng((shared, k)).standard_normal(64).astype(np.float32),), k


@pytest.mark.parametrize("count", [1, 2, 31, 33, 100])
def test_sums_do_not_depend_on_where_they_are_made(count):
    said = []
    (one,), kept = Execution().folded("sum", draw, 7, count)
    execution = Execution(LocalExecutor(3), report=lambda *what: said.append(what))
    (other,), _ = execution.folded("sum", draw, 7, count)
    np.testing.assert_array_equal(one, other)
    assert kept == list(range(count))
    assert said[-1][1] == said[-1][2] <= 32
    exact = sum(draw(7, k)[0][0].astype(np.float64) for k in range(count))
    np.testing.assert_allclose(one, exact, atol=1e-4)
    (highest,), _ = Execution().folded("most", draw, 7, count, np.maximum)
    np.testing.assert_array_equal(highest, np.max([draw(7, k)[0][0] for k in range(count)], axis=0))


def assert_alike(one: SetEstimate, other: SetEstimate):
    for name in ("reading", "best", "keep", "scatter", "content"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for k in range(len(one.names)):
        np.testing.assert_array_equal(one.of_class(k).occupancy, other.of_class(k).occupancy)
        np.testing.assert_array_equal(one.of_class(k).uncertainty, other.of_class(k).uncertainty)


@pytest.mark.parametrize("known", [True, False])
def test_threads_and_files_do_not_change_the_answer(tools, regularised, tmp_path, known):
    members = tools["members_of"](regularised, known=known)
    plain = estimate_set(members)
    with scratch_storage(tmp_path) as storage:
        other = estimate_set(members, room=storage, pool=LocalExecutor(3))
        assert_alike(plain, other)
        kept = [path for path in (tmp_path / SCRATCH).iterdir() if path.name != "lock"]
        assert len(kept) == 2  # of the shelves that were given back, nothing
        sent = pickle.loads(pickle.dumps(other))
        assert_alike(plain, sent)
        assert sent.grid.same_grid(plain.grid)
        assert not sent.grid.data.any()
