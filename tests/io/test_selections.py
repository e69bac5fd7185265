"""Selections are read as people write them, and refused with the line where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from occupy.errors import InputError
from occupy.io.tables import read_selections


def test_all_ways_to_write_parts(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "# comment\nstalk: [A, B:1-80, L7]\nshort: A\nplain: A, B:1-80,95, C\nlist:\n  - B: 1-80\n"
        "  - 1\n  - NO\n  - 1:30\n'with space': [\"5S\"]\n",
        encoding="utf-8",
    )
    assert read_selections(path) == {
        "stalk": ("A", "B:1-80", "L7"),
        "short": ("A",),
        "plain": ("A", "B:1-80,95", "C"),
        "list": ("B:1-80", "1", "NO", "1:30"),
        "with space": ("5S",),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [A\nb: B\n", "line 2.*not valid YAML"),
        ("a: A\na: B\n", "line 2: a comes twice"),
        ("- A\n- B\n", "no names of regions"),
        ("", "no names of regions"),
        ("a: A\nb:\n", "line 2: not a name or part"),
        ("a: [A, [B, '']]", "line 1: not a name or part"),
        ("a: " + "[" * 3000, "line 1: lists within lists"),
        ("a: " + "{b: " * 3000, "line 1: lists within lists"),
    ],
)
def test_what_is_wrong_is_said_with_the_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        read_selections(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("bytes.yaml", "none.yaml"):
        with pytest.raises(InputError, match=r"cannot be read|no such file"):
            read_selections(tmp_path / name)


def test_m07_references_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = [f"{c}: &{c} [{','.join(['*' + p] * 10)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)]
    path = tmp_path / "s.yaml"
    path.write_text("\n".join(["a: &a [x,x]", *lines]), encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2: references \(\*a\) are not read"):
        read_selections(path)


def test_m08_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("a: &a [*a]\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 1: references \(\*a\) are not read"):
        read_selections(path)
