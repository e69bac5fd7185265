"""Figures of sets say what they must and stay of bearable size; a person judges how they look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from occupy.regions.choose import Correlation, Tree
from occupy.regions.table import Beside, OccupancyTable
from occupy.report.set_figures import (
    _correlation_figure,
    _set_figures,
    _tree_lines,
    heat_map,
    map_tree,
    set_forest,
    strip,
    write_set_figures,
)


def table(rows: int, columns: int, errors: float = np.nan, weights: float = np.nan) -> OccupancyTable:
    values = np.random.default_rng(0).random((rows, columns))
    return OccupancyTable(
        tuple(f"unit {i}" for i in range(rows)),
        tuple(f"class{i:03}" for i in range(columns)),
        values,
        np.full(values.shape, errors),
        np.ones(rows),
        np.ones(rows),
        np.full(columns, weights),
    )


def texts(figure) -> str:
    from matplotlib.text import Text

    return "\n".join(t.get_text() for t in figure.findobj(Text))


def images(figure) -> list[np.ndarray]:
    return [np.asarray(i.get_array()) for axes in figure.axes for i in axes.images]


def test_a_small_heat_map_shows_every_name_and_number_beside_each_other() -> None:
    made = table(5, 4, weights=0.25)
    (figure,) = heat_map(made)
    said = texts(figure)
    for name in made.regions:
        assert name in said
    for name in made.maps:
        assert f"{name} 25%" in said
    cells = images(figure)[1]
    assert cells.shape == (5, 4)
    axes = figure.axes[1]
    rows = [t.get_text() for t in axes.get_yticklabels()]
    columns = [t.get_text().split()[0] for t in axes.get_xticklabels()]
    for i, region in enumerate(rows):
        for j, name in enumerate(columns):
            assert cells[i, j] == pytest.approx(made.reading(region, name).value)
            assert f"{cells[i, j]:.2f}" in said


@pytest.mark.parametrize(
    ("rows", "columns", "pages"), [(1, 1, 1), (2, 2, 1), (45, 4, 1), (129, 4, 1), (3, 300, 3), (600, 40, 8)]
)
def test_any_size_is_folded_onto_pages_with_every_name(rows: int, columns: int, pages: int) -> None:
    made = table(rows, columns)
    figures = heat_map(made)
    assert len(figures) == pages
    said = []
    for figure in figures:
        width, height = figure.get_size_inches()
        assert 2 < width < 16
        assert 1 < height < 14
        said += [t.get_text() for axes in figure.axes[1:] for t in axes.get_yticklabels()]
        for axes in figure.axes:
            assert axes.get_position().x1 <= 1
    shown = set(said) & set(made.regions)
    assert shown == set(made.regions) if pages < 8 else 300 < len(shown) < rows
    assert all(len({t.get_text() for t in axes.get_xticklabels()}) > 0 for axes in figures[0].axes)


def test_of_many_regions_those_that_differ_most_come_first() -> None:
    made = table(100, 3)
    figure = heat_map(made)[0]
    first = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    spread = np.ptp(made.values, axis=1)
    assert first[0] == made.regions[int(spread.argmax())]
    assert [spread[made.regions.index(name)] for name in first] == sorted(spread, reverse=True)[: len(first)]
    assert "what varies most first" in texts(figure)


def test_unknown_values_are_no_colour() -> None:
    made = table(3, 3)
    values = made.values.copy()
    values[1, 1] = np.nan
    holed = OccupancyTable(
        made.regions, made.maps, values, made.errors, made.voxels, made.independent, made.weights
    )
    assert "–" in texts(heat_map(holed)[0])


def test_correlations_are_shown_with_what_they_are_worth() -> None:
    figure = _correlation_figure(Correlation.of(table(6, 4)))
    said = texts(figure)
    assert "4 maps: by chance, one pair in twenty has |r| above 0.95" in said
    assert "0 of 15 pairs stand out" in said
    assert "With so few maps" in said
    assert _correlation_figure(Correlation.of(table(6, 2))) is None
    assert _correlation_figure(Correlation.of(table(1, 9))) is None


def test_pairs_that_do_not_stand_out_are_pale() -> None:
    rng = np.random.default_rng(1)
    state = rng.random(20)
    values = np.array([state, state, rng.random(20)])
    made = table(3, 20)
    found = Correlation.of(
        OccupancyTable(
            made.regions, made.maps, values, made.errors, made.voxels, made.independent, made.weights
        )
    )
    figure = _correlation_figure(found)
    assert "unit 0 with unit 1 (+1.00)" in texts(figure)
    cells = images(figure)[1]
    names = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    at = {name: i for i, name in enumerate(names)}
    assert cells[at["unit 0"], at["unit 1"]].min() < 0.3  # full colour
    assert cells[at["unit 0"], at["unit 2"]].min() > 0.6


def test_the_tree_of_maps_names_them_all() -> None:
    said = texts(map_tree(table(5, 7)))
    assert all(f"class{i:03}" in said for i in range(7))
    assert map_tree(table(5, 2)) is None


def test_brackets_join_neighbours_at_their_distance() -> None:
    tree = Tree.of(np.array([[0.0], [1.0], [0.1]]))
    across, depth = _tree_lines(tree)
    place = {leaf: i for i, leaf in enumerate(tree.order)}
    assert sorted((across[0, 0], across[0, 2])) == sorted((place[0], place[2]))
    np.testing.assert_allclose(depth[0], [0, 0.1, 0.1, 0])
    np.testing.assert_allclose(sorted(depth[1]), [0, 0.1, 0.95, 0.95])


def test_a_strip_begins_with_what_is_missing_and_shows_intervals_where_known() -> None:
    made = table(6, 1, errors=0.1)
    (figure,) = strip(made)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == sorted(made.values[:, 0])
    assert len(figure.axes[0].collections) == 2
    assert not strip(table(6, 1))[0].axes[0].collections


def test_a_long_strip_is_folded() -> None:
    made = table(129, 1)
    (figure,) = strip(made)
    width, height = figure.get_size_inches()
    assert 9 < width < 11
    assert 9 < height < 11
    widths = [bar.get_width() for axes in figure.axes for bar in axes.patches]
    assert widths == sorted(made.values[:, 0])


def test_which_figures_make_sense() -> None:
    assert set(_set_figures(table(4, 1))) == {"strip"}
    assert set(_set_figures(table(4, 2))) == {"heat_map"}
    assert set(_set_figures(table(4, 5))) == {"heat_map", "correlation", "map_tree"}


@pytest.mark.parametrize(("rows", "maps", "pages"), [(4, 2, 1), (60, 12, 2)])
def test_a_forest_shows_each_part_in_each_map_with_its_interval(rows: int, maps: int, pages: int) -> None:
    plain = table(rows, maps, 0.05)
    read = plain.values - 0.2
    notes = tuple(tuple("higher" if i == 1 and k == 1 else "" for k in range(maps)) for i in range(rows))
    low, high = plain.values - 0.1, plain.values + 0.1
    made = replace(plain, beside=Beside(read, plain.errors, low, high, notes))
    assert "forest" in _set_figures(made)
    figures = set_forest(made)
    assert len(figures) == pages
    shown = {}
    for figure in figures:
        assert len(figure.axes) == min(maps, 8)
        names = [label for label in figure.axes[0].get_yticklabels() if label.get_text()]
        for axes in figure.axes:
            column = made.maps.index(axes.get_title(loc="left"))
            dots = next(line for line in axes.lines if line.get_label() == "occupancy").get_xdata()
            bars = [segment[:, 0] for segment in axes.collections[0].get_segments()]
            for name, dot, (left, right) in zip(names, dots, bars, strict=True):
                row = made.regions.index(name.get_text())
                assert (dot, left, right) == (
                    made.values[row, column], low[row, column], high[row, column],
                )  # fmt: skip
                shown[row, column] = name.get_fontweight()
    assert len(shown) == rows * min(maps, 8)
    assert {row for (row, _), weight in shown.items() if weight == "bold"} == {1}


def test_files_whatever_the_names(tmp_path: Path) -> None:
    made = table(3, 3)
    odd = OccupancyTable(
        ("a$b_{c", "日本語", "x" * 90),
        made.maps,
        made.values,
        made.errors,
        made.voxels,
        made.independent,
        made.weights,
    )
    files = write_set_figures(odd, tmp_path)
    assert files["heat_map"] == "occupancy_heat_map.png"
    begins = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xm"}
    for name in files.values():
        assert (tmp_path / name).read_bytes()[:4] == begins[Path(name).suffix]
    assert len(list(tmp_path.iterdir())) == len(files)
