"""What is written comes back, and what is damaged is refused with the line."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.errors import InputError
from occupy.regions.table import OccupancyTable
from occupy.report.tables import COLUMNS, _csv_text, _tsv_text, cell_text, read_table, write_tables

NAMES = st.lists(
    st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=8).filter(str.strip),
    min_size=1,
    max_size=4,
    unique=True,
)


def table(regions=("A", "B:1-80, x"), maps=("one", "two"), weights=(0.75, 0.25), errors=0.05):
    rng = np.random.default_rng(0)
    shape = len(regions), len(maps)
    return OccupancyTable(
        tuple(regions),
        tuple(maps),
        rng.random(shape).round(4),
        np.full(shape, errors),
        rng.integers(1, 999, len(regions)),
        rng.integers(1, 99, len(regions)),
        np.resize(np.asarray(weights, dtype=float), len(maps)),
    )


@given(NAMES, NAMES, st.sampled_from([0.05, float("nan")]))
def test_what_is_written_comes_back(tmp_path_factory, regions, maps, errors) -> None:
    made = table(regions, maps, errors=errors)
    path = tmp_path_factory.mktemp("t") / "occupancy.csv"
    path.write_text(_csv_text(made), encoding="utf-8")
    found = read_table(path)
    assert (found.regions, found.maps) == (made.regions, made.maps)
    for name in ("values", "errors", "voxels", "independent"):
        np.testing.assert_allclose(getattr(found, name), getattr(made, name), atol=1e-4)


def test_the_long_table_has_a_line_per_region_and_map(tmp_path: Path) -> None:
    files = write_tables(tmp_path, table())
    assert files == {"csv": "occupancy.csv", "tsv": "occupancy.tsv"}
    rows = list(csv.DictReader((tmp_path / "occupancy.csv").read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [(r["region"], r["map"]) for r in rows] == [
        (r, m) for r in ("A", "B:1-80, x") for m in ("one", "two")
    ]
    value, error = float(rows[0]["occupancy"]), float(rows[0]["standard_error"])
    assert float(rows[0]["low_95"]) == pytest.approx(max(0, value - 1.96 * error), abs=1e-4)


def test_unknown_numbers_are_empty() -> None:
    made = table(errors=float("nan"))
    row = next(csv.DictReader(_csv_text(made).splitlines()))
    assert (row["standard_error"], row["low_95"], row["high_95"]) == ("", "", "")
    assert "nan" not in _csv_text(made)
    assert "nan" not in _tsv_text(made)


def test_the_wide_table_is_for_people() -> None:
    made = table()
    lines = _tsv_text(made, ["look out"]).splitlines()
    assert lines[0].startswith("# occupancy of regions")
    assert lines[1] == "# look out"
    assert lines[2].split("\t")[2:] == ["75.0", "25.0"]
    assert lines[3].split("\t") == ["region", "voxels", "one", "two"]
    assert lines[4].split("\t")[2] == f"{made.values[0, 0]:.2f} ± 0.05"
    assert len(lines) == 6
    no_weights = _tsv_text(table(weights=(np.nan,)))
    assert "share" not in no_weights
    assert (cell_text(0.617, np.nan), cell_text(np.nan, np.nan)) == ("0.62", "–")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace("standard_error", "se"), "no column standard_error"),
        (lambda t: t.replace(",one,0", ",one,x0", 1), "line 2: occupancy is not a number: 'x0"),
        (lambda t: t.replace(",one,0", ",one,inf0", 1), "line 2: occupancy is not a number"),
        (lambda t: t + t.splitlines()[1] + "\n", "line 6: A in one comes twice"),
        (lambda t: "\n".join(t.splitlines()[:-1]), "B:1-80, x in two is missing"),
        (lambda t: t.splitlines()[0], "a table without lines"),
        (lambda t: t.replace("A,one", ",one", 1), "line 2: no name"),
        (lambda t: t.splitlines()[0] + "\nA,one,0.5\n", "line 2: standard_error: missing"),
        (lambda t: "", "no column region"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, change, words) -> None:
    path = tmp_path / "occupancy.csv"
    path.write_text(change(_csv_text(table())), encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\x00\xfe")
    for name, words in (("none.csv", "no such file"), ("binary.csv", "cannot be read")):
        with pytest.raises(InputError, match=f"{name}: {words}"):
            read_table(tmp_path / name)


@pytest.mark.parametrize("reach", [1.959964, 3.182446, 2.5])
def test_the_width_of_intervals_is_stored(tmp_path: Path, reach: float) -> None:
    # Errors this small are lost in the rounding of the interval's ends.
    made = replace(table(errors=0.0001), reach_95=reach)
    write_tables(tmp_path, made)
    assert read_table(tmp_path / "occupancy.csv").reach_95 == reach


def test_tables_of_0_1_which_did_not_store_it_are_still_read(tmp_path: Path) -> None:
    made = replace(table(errors=0.02), reach_95=3.182446)
    lines = [
        line.rsplit(",", 1)[0] for line in _csv_text(replace(made, values=made.values / 4 + 0.3)).splitlines()
    ]
    (tmp_path / "old.csv").write_text("\n".join(lines) + "\n")
    assert read_table(tmp_path / "old.csv").reach_95 == pytest.approx(3.182446, rel=0.01)


def test_intervals_of_two_widths_in_one_table_are_refused(tmp_path: Path) -> None:
    text = _csv_text(table())
    (tmp_path / "t.csv").write_text(text.replace("1.959964", "3", 1))
    with pytest.raises(InputError, match="several widths"):
        read_table(tmp_path / "t.csv")
