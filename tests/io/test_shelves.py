"""Scratch files of a set: one run at a time, and nothing left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occupy.errors import OutputError
from occupy.io.cluster import SCRATCH, scratch_storage


def test_two_runs_in_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with scratch_storage(tmp_path / "out") as room:
        shelf = room(1, (2, 2, 2))
        shelf[0] = np.ones((2, 2, 2), np.float32)
        with pytest.raises(OutputError, match="another run is working in"), scratch_storage(tmp_path / "out"):
            pass
        assert shelf[0].sum() == 8
    assert not any(tmp_path.iterdir())
    with scratch_storage(tmp_path / "out"):
        pass


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / SCRATCH / "01"
    left.mkdir(parents=True)
    (left / "000000").write_bytes(b"old")
    (tmp_path / SCRATCH / "token").write_text("old")
    with scratch_storage(tmp_path):
        assert [path.name for path in (tmp_path / SCRATCH).iterdir()] == ["lock"]
    assert not any(tmp_path.iterdir())
