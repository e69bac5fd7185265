"""Reading STAR files of RELION 3.0 to 5."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from occupy.errors import InputError
from occupy.io.star import read_star

LOOP = """
# version 50001

data_particles

loop_
_rlnImageName #1
_rlnClassNumber #2
000001@Extract/a.mrcs            1
000002@Extract/a.mrcs            3

"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_star(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_a_loop_and_a_plain_block(tmp_path: Path) -> None:
    text = "\n# version 50001\n\ndata_general\n\n_rlnPixelSize     1.35 # Å\n_rlnName   'a b'\n \n" + LOOP
    tables = read_star(write(tmp_path / "x.star", text))
    assert list(tables) == ["general", "particles"]
    general, particles = tables.values()
    assert general.columns == ("rlnPixelSize", "rlnName")
    assert general.rows == (("1.35", "a b"),)
    assert general.value("rlnPixelSize") == "1.35"
    assert general.numbers("rlnPixelSize") == (1.35,)
    assert particles.columns == ("rlnImageName", "rlnClassNumber")
    assert particles.rows[1] == ("000002@Extract/a.mrcs", "3")
    assert particles.column("rlnClassNumber") == ("1", "3")
    assert particles.has("rlnClassNumber")
    assert not particles.has("rlnAngleRot")


def test_the_nameless_block_of_relion_3_0(tmp_path: Path) -> None:
    tables = read_star(
        write(tmp_path / "x.star", "\ndata_\n\nloop_ \n_rlnA #1 \n_rlnB #2 \n 1 2 \n 3 4 \n \n")
    )
    assert tables[""].rows == (("1", "2"), ("3", "4"))


def test_line_ends_of_windows_compression_and_empty_tables(tmp_path: Path) -> None:
    (tmp_path / "x.star").write_bytes(LOOP.replace("\n", "\r\n").encode())
    (tmp_path / "x.star.gz").write_bytes(gzip.compress(LOOP.encode()))
    assert [t.rows for t in read_star(tmp_path / "x.star").values()] == [
        t.rows for t in read_star(tmp_path / "x.star.gz").values()
    ]
    empty = read_star(write(tmp_path / "e.star", "data_a\n\nloop_\n_rlnA #1\n_rlnB #2\n\ndata_b\n_rlnC 1\n"))
    assert empty["a"].columns == ("rlnA", "rlnB")
    assert empty["a"].rows == ()


def test_letters_beyond_ascii(tmp_path: Path) -> None:
    text = "# --i /home/josé/x.star\ndata_a\n_rlnName 'Zoë \\x41 Å'\n_rlnPath jürgen/map.mrc\n"
    table = read_star(write(tmp_path / "x.star", text))["a"]
    assert table.rows == (("Zoë \\x41 Å", "jürgen/map.mrc"),)


def test_single_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.star", "data_optics\n_rlnImageSize 64\n" + LOOP)
    tables = read_star(path, columns=("rlnClassNumber",))
    assert {name: table.columns for name, table in tables.items()} == {"particles": ("rlnClassNumber",)}
    assert tables["particles"].rows == (("1",), ("3",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LOOP.rstrip()[:-20], "truncated"),
        ("hello world\n", "not a STAR file"),
        ("", "not a STAR file"),
        ("# version 50001\n", "not a STAR file"),
        ("data_a\n_rlnA 1\nloop_\n_rlnB\n1\n", "more than one table"),
        ("data_a\n_rlnA 1\ndata_a\n_rlnA 2\n", "two blocks data_a"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(write(tmp_path / "x.star", text))


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.star")
    refusal(tmp_path)
    (tmp_path / "b.star").write_bytes(bytes(range(256)) * 20)
    assert "not a STAR file" in refusal(tmp_path / "b.star")
    (tmp_path / "c.star.gz").write_bytes(gzip.compress(LOOP.encode())[:-12])
    assert "damaged" in refusal(tmp_path / "c.star.gz")


def test_wrong_columns_and_values(tmp_path: Path) -> None:
    table = read_star(write(tmp_path / "x.star", LOOP))["particles"]
    with pytest.raises(InputError, match=r"x\.star: block data_particles has no column rlnPixelSize"):
        table.numbers("rlnPixelSize")
    with pytest.raises(InputError, match=r"should be a number, not '000001@Extract/a\.mrcs'"):
        table.numbers("rlnImageName")
    with pytest.raises(InputError, match="one row, not 2"):
        table.value("rlnClassNumber")


def test_all_tables_of_a_real_model(shared_data: Callable[[str], Path]) -> None:
    job = shared_data("relion_50s") / "Class3D" / "job004"
    tables = read_star(job / "run_it025_model.star")
    assert len(tables["model_classes"].rows) == 4
    assert len(tables["model_class_4"].numbers("rlnSsnrMap")) == 65
    data = read_star(job / "run_it025_data.star")
    alone = read_star(job / "run_it025_data.star", columns=("rlnClassNumber",))
    assert alone["particles"].column("rlnClassNumber") == data["particles"].column("rlnClassNumber")
    assert len(data["particles"].rows) == 4000


def test_the_parser_is_imported_when_needed() -> None:
    code = "import sys, occupy.io.sets; sys.exit('gemmi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_packed_file_that_grows_without_end_is_refused(tmp_path):
    path = tmp_path / "a.star.gz"
    path.write_bytes(gzip.compress(b"data_\n" + b"\n" * (1 << 26)))
    with pytest.raises(InputError, match="unpacks to more than"):
        read_star(path)
