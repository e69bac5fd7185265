"""Pickled arrays are read without running what a pickle asks for."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.errors import InputError
from occupy.io.particles import _write_integers, read_integers


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["<i8", "<i4", ">i4", "u1", "i2"])
def test_every_protocol_and_integer_type_is_read(tmp_path: Path, protocol: int, kind: str) -> None:
    values = np.array([3, 0, 2, 100], dtype=kind)
    path = tmp_path / "labels.pkl"
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    np.testing.assert_array_equal(read_integers(path), [3, 0, 2, 100])


def test_lists_and_numpy_scalars_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ind.pkl"
    path.write_bytes(pickle.dumps([1, np.int64(5), np.int32(-7)]))
    assert read_integers(path).tolist() == [1, 5, -7]


@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50))
def test_written_arrays_are_read_back_by_numpy_and_by_us(
    tmp_path_factory: pytest.TempPathFactory, values: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "ind.pkl"
    _write_integers(path, np.array(values, dtype=np.int64))
    found = pickle.loads(path.read_bytes())
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.int64
    assert found.tolist() == values == read_integers(path).tolist()


def test_written_arrays_name_no_module_of_numpy_2(tmp_path: Path) -> None:
    _write_integers(tmp_path / "ind.pkl", [1, 2])
    assert b"numpy._core" not in (tmp_path / "ind.pkl").read_bytes()


class Evil:
    """A pickle that would make a file when it is unpickled the usual way."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def evil_pickles(mark: Path) -> dict[str, bytes]:
    return {
        "alone": pickle.dumps(Evil(mark)),
        "in a list": pickle.dumps([1, Evil(mark)]),
        "in an array": pickle.dumps(np.array([Evil(mark)], dtype=object)),
        "through numpy": b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n}tR.",
        "through builtins": b"c__builtin__\neval\n(S'__import__(\"os\").getcwd()'\ntR.",
    }


@pytest.mark.parametrize("kind", ["alone", "in a list", "in an array", "through numpy", "through builtins"])
def test_nothing_is_run(tmp_path: Path, kind: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "labels.pkl"
    path.write_bytes(evil_pickles(mark)[kind])
    with pytest.raises(InputError, match="refused"):
        read_integers(path)
    assert not mark.exists()


def test_the_evil_pickle_would_work_elsewhere(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "labels.pkl"
    path.write_bytes(evil_pickles(mark)["alone"])
    subprocess.run(
        [sys.executable, "-c", f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"], check=True
    )
    assert mark.exists()


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 2), int),
        np.zeros(3),
        np.array(["a"]),
        np.zeros(2, [("a", int)]),
        "text",
        {"a": 1},
        [1.5],
        None,
    ],
    ids=str,
)
def test_other_things_are_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "labels.pkl"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(InputError, match=r"labels\.pkl"):
        read_integers(path)


@given(cut=st.integers(0, 150), change=st.integers(0, 255))
def test_damaged_files_are_refused_or_read_never_worse(
    tmp_path_factory: pytest.TempPathFactory, cut: int, change: int
) -> None:
    raw = bytearray(pickle.dumps(np.arange(5)))
    raw[min(cut, len(raw) - 1)] ^= change
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    for content in (bytes(raw), bytes(raw[:cut])):
        path.write_bytes(content)
        with suppress(InputError):
            assert read_integers(path).dtype == np.int64


@pytest.mark.parametrize("entry", [b"r\x00\x00\x00\x20", b"p536870912\n"])
def test_a_table_of_half_a_billion_entries_is_refused_at_once(tmp_path: Path, entry: bytes) -> None:
    path = tmp_path / "bomb.pkl"
    path.write_bytes(b"\x80\x02]" + entry + b".")
    with pytest.raises(InputError, match="a table of 536870912 entries"):
        read_integers(path)


def test_a_long_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps(list(range(20_000))))
    np.testing.assert_array_equal(read_integers(path), np.arange(20_000))
