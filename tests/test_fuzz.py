"""The fuzzer (`.ci/run` runs it) notices what it is there to notice, and can repeat it."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from occupy.errors import InputError
from tools.fuzz import failure_of
from tools.fuzz_files import Files, damaged

WHOLE = b"some text, that is whole\n" * 20


def failing(error: Exception):
    def read(path: Path) -> None:
        raise error

    return Files([WHOLE], "x.txt", read)


def test_only_our_own_errors_with_a_text_are_good(tmp_path: Path) -> None:
    assert failure_of(failing(InputError("x.txt: no")), [1], tmp_path, 5) is None
    assert "says" in failure_of(failing(InputError(" ")), [1], tmp_path, 5)
    for error in (ValueError("x"), KeyError("x"), RecursionError(), MemoryError(), UnicodeError("x")):
        assert type(error).__name__ in failure_of(failing(error), [1], tmp_path, 5)


def test_warnings_and_waiting_are_failures(tmp_path: Path) -> None:
    warn = Files([WHOLE], "x.txt", lambda _: warnings.warn("overflow", RuntimeWarning, stacklevel=1))
    assert "RuntimeWarning" in failure_of(warn, [1], tmp_path, 5)
    wait = Files([WHOLE], "x.txt", lambda _: time.sleep(5))
    assert "TimeoutError" in failure_of(wait, [1], tmp_path, 0.05)


@pytest.mark.parametrize("raw", [WHOLE, b"", b"x"])
def test_damage_follows_from_the_seed_and_is_seldom_none(raw: bytes) -> None:
    def made(seed: int) -> bytes:
        return damaged(np.random.default_rng(seed), raw, WHOLE)

    found = [made(seed) for seed in range(200)]
    assert found == [made(seed) for seed in range(200)]
    if raw == WHOLE:
        assert sum(text == raw for text in found) < 20
        assert len(set(found)) > 150
