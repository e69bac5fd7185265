"""Slabs cover everything once; what goes wrong in a thread is heard of."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.numerics.parallel import available_cores, for_each_slab, large_empty, planes_per_slab, slabs


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 4))
def test_every_plane_is_worked_on_once(planes, thickness, threads):
    seen = np.zeros(planes, dtype=int)

    def work(start, stop):
        assert 0 < stop - start <= thickness
        seen[start:stop] += 1

    for_each_slab(work, planes, thickness, threads)
    np.testing.assert_array_equal(seen, 1)


def test_slabs_are_consecutive():
    assert list(slabs(10, 4)) == [(0, 4), (4, 8), (8, 10)]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_exceptions_come_through_and_stop_the_rest(threads):
    done = []

    def work(start, stop):
        if start == 2:
            raise KeyError("plane 2")
        time.sleep(0.002)
        done.append(start)

    with pytest.raises(KeyError, match="plane 2"):
        for_each_slab(work, 200, 1, threads)
    assert len(done) < 190


def test_one_thread_means_the_calling_one_and_two_mean_others():
    names = []
    for threads in (1, 2):
        for_each_slab(lambda start, stop: names.append(threading.current_thread()), 2, 1, threads)
    assert names[:2] == [threading.current_thread()] * 2
    assert threading.current_thread() not in names[2:]


@given(st.tuples(*[st.integers(1, 500)] * 3), st.integers(1, 1 << 20))
def test_slabs_hold_about_what_was_asked_for(shape, voxels):
    planes = planes_per_slab(shape, voxels)
    assert 1 <= planes <= shape[0]
    assert planes == 1 or planes * shape[1] * shape[2] <= voxels
    assert planes == shape[0] or (planes + 1) * shape[1] * shape[2] > voxels


def test_cores_respect_the_affinity_mask(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3}, raising=False)
    assert available_cores() == 1
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert available_cores() == 7


@pytest.mark.parametrize("shape", [(3, 4, 5), (64, 512, 300)])
def test_a_large_array_is_writable_contiguous_and_its_own(shape):
    one, other = large_empty(shape), large_empty(shape)
    assert one.shape == shape
    assert one.dtype == np.float32
    assert one.flags.writeable
    assert one.flags.c_contiguous
    one.fill(1)
    other.fill(2)
    assert (one == 1).all()


def test_without_the_system_s_help_it_is_an_ordinary_array(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("no huge pages here")

    monkeypatch.setattr("occupy.numerics.parallel.mmap.mmap", refuse)
    array = large_empty((64, 512, 300))
    array.fill(3)
    assert array.base is None
    assert (array == 3).all()
