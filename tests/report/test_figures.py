"""Slices lie where they should, and figures say what they must; a person judges how they look."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from occupy.errors import Notice, OutputError
from occupy.pipeline import Estimate, estimate
from occupy.report import canvas, figures, slices
from occupy.report.chimerax import chimerax_script
from occupy.report.estimate_page import _opening
from occupy.report.palette import ALARM, MINIMUM_SCALE, SCALE_PALETTE, WARNING
from occupy.report.slices import LOWEST_SHOWN, lowest_shown_scale
from occupy.resolve import resolve
from occupy.settings import Settings
from occupy.volume import Frame, Volume

ORDERS = [list(order) for order in permutations((1, 2, 3))]
BAD = Notice("solvent-fit", "bad solvent fit: the solvent has no width (flattened)")


def blob(shape: tuple[int, int, int], noise: float = 0.1) -> np.ndarray:
    z, y, x = np.indices(shape)
    middle = [n / 2 for n in shape]
    radius = ((z - middle[0]) / 7) ** 2 + ((y - middle[1]) / 8) ** 2 + ((x - middle[2] - 4) / 10) ** 2
    drawn = np.random.default_rng(1).normal(0, noise, shape) if noise else 0
    return (np.exp(-radius) + drawn).astype(np.float32)


def permuted(standard: np.ndarray, axes: list[int], size: tuple[float, float, float]) -> Volume:
    """Store a (z, y, x) array in a file whose columns, rows and sections run along ``axes``."""
    columns, rows, sections = (3 - axis for axis in axes)
    data = standard.transpose(sections, rows, columns)
    frame = Frame(axes=(axes[0], axes[1], axes[2]))
    return Volume(data, (size[sections], size[rows], size[columns]), frame, "permuted")


@pytest.fixture(scope="module")
def plain() -> Estimate:
    return estimate(Volume.from_array(blob((48, 48, 48)), 3.0, "blob"), Settings(amplify=3, sigmoid=4))


def texts(figure: object) -> str:
    from matplotlib.text import Text

    return "\n".join(t.get_text() for t in figure.findobj(Text))  # type: ignore[attr-defined]


@pytest.mark.parametrize("axes", ORDERS)
def test_a_marked_voxel_appears_where_it_lies_in_space(axes: list[int]) -> None:
    shape = (9, 12, 15)  # z, y, x, odd and even
    marks = {0: (4, 3, 11), 1: (7, 6, 2), 2: (1, 10, 7)}  # one on each central slice
    standard = np.zeros(shape, dtype=np.float32)
    for axis, mark in marks.items():
        standard[mark] = axis + 1
    volume = permuted(standard, axes, (1.0, 2.0, 3.0))
    for axis, mark in marks.items():
        image = slices.central_slice(volume, volume.data, axis)
        up, right = (i for i in range(3) if i != axis)
        assert image.shape == (shape[up], shape[right])
        assert np.argwhere(image == axis + 1).tolist() == [[mark[up], mark[right]]]
        # and the position ChimeraX shows is the slice's, in x, y, z
        index = np.argwhere(volume.data == axis + 1)[0]
        np.testing.assert_allclose(volume.position(index), [mark[2] * 3.0, mark[1] * 2.0, mark[0] * 1.0])


@pytest.mark.parametrize("axes", ORDERS[::2])
@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(mode="resolution", recalibrate=True),
        Settings(max_box=32),
        Settings(estimator="nlf", kernel_size=9),
    ],
)
def test_fast_slices_equal_those_of_whole_maps(axes: list[int], settings: Settings) -> None:
    est = estimate(permuted(blob((33, 40, 47)), axes, (3.0, 2.5, 3.5)), settings)
    for axis in range(3):
        whole = slices.central_slice(est.volume, est.scale, axis)
        np.testing.assert_array_equal(slices._scale_slice(est, axis), whole)
        whole = slices.central_slice(est.volume, est.confidence, axis)
        np.testing.assert_array_equal(slices.confidence_slice(est, axis), whole)


@pytest.mark.parametrize("axes", ORDERS)
@pytest.mark.parametrize("max_box", [None, 32])
def test_the_tile_is_outlined_around_what_it_holds(axes: list[int], max_box: int | None) -> None:
    size = (2.0, 3.0, 4.0)
    standard = blob((40, 36, 48), 0.02)
    est = estimate(permuted(standard, axes, size), Settings(max_box=max_box))
    full = est.full_scale
    coarse = [n / m for n, m in zip(est.volume.shape, est.settings.shape, strict=True)]
    for axis in range(3):
        box = figures._tile_rectangle(est, axis)
        order = slices.file_axes(est.volume)
        along = order[axis]
        inside = est.volume.shape[along] // 2 / coarse[along] - full.largest.start[along]
        assert (box is not None) == (-0.51 <= inside <= full.tile_size[along] - 0.49)
        if box is None:
            continue
        left, bottom, width, height = box
        up, right = (i for i in range(3) if i != axis)
        for start, extent, i in ((bottom, height, up), (left, width, right)):
            k = order[i]
            step = size[i] * coarse[k]  # Å per voxel of the working grid
            assert extent == pytest.approx(full.tile_size[k] * step)
            # voxel 0 of the map is centred half a voxel from the picture's edge
            first = full.largest.start[k] * step + 0.5 * size[i]
            assert start + 0.5 * step == pytest.approx(first)


@pytest.mark.parametrize(
    ("extent", "length"), [(100, 20), (80, 20), (79, 10), (352, 50), (1000, 200), (4.1, 1)]
)
def test_scale_bars_are_round_and_fit(extent: float, length: float) -> None:
    assert figures._nice_length(extent) == pytest.approx(length)


def test_slices_figure_has_nine_panels_three_bars_and_the_numbers(plain: Estimate) -> None:
    figure = figures.slices_figure(plain)
    assert len(figure.axes) == 12
    said = texts(figure)
    for words in (
        "blob: local scale",
        "z slice 24",
        "y slice 24",
        "x slice 24",
        "Å",
        "occupancy mode",
    ):
        assert words in said
    assert "BAD" not in said
    scale = figure.axes[1].images[0]  # panels run row by row
    assert scale.get_clim() == (MINIMUM_SCALE, 1.0)
    from matplotlib.colors import to_hex

    for fraction, colour in SCALE_PALETTE:
        assert to_hex(scale.cmap(fraction)) == colour


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((48, 48, 48), Settings(mode="resolution")),
        ((21, 47, 33), Settings(recalibrate=True, naive=True)),
        ((90, 24, 25), Settings(max_box=60)),
    ],
)
def test_figures_are_drawn_for_odd_boxes_and_all_modes(
    shape: tuple[int, int, int], settings: Settings
) -> None:
    est = estimate(Volume.from_array(blob(shape), (3.0, 2.0, 2.5), "a_$b$_" + "c" * 200), settings)
    for figure in (figures.slices_figure(est), figures.solvent_figure(est)):
        figure.dpi = 40
        if settings.naive:  # drawing takes long, and once is enough
            figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        for text in figure.texts:
            box = text.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= width
            assert box.y0 >= 0
            assert box.y1 <= height


def test_a_bad_solvent_fit_is_loud_in_both_figures(plain: Estimate) -> None:
    noiseless = estimate(Volume.from_array(blob((48, 48, 48), 0.0), 3.0, "noiseless"))
    assert noiseless.solvent_fit_is_bad
    masked = replace(plain, notices=(BAD,))
    for figure in (figures.slices_figure(masked), figures.solvent_figure(noiseless)):
        said = texts(figure)
        assert "BAD SOLVENT FIT" in said
        assert "! bad solvent fit" in said
    assert lowest_shown_scale(masked) == LOWEST_SHOWN


@pytest.mark.parametrize(("code", "colour"), [("masked", ALARM), ("small-box", WARNING)])
def test_one_severity_has_one_colour_in_picture_script_and_report(
    plain: Estimate, code: str, colour: str
) -> None:
    from matplotlib.text import Text

    told = replace(plain, notices=(Notice(code, "look here"),))
    said = [t for t in figures.slices_figure(told).findobj(Text) if "look here" in t.get_text()]
    assert [t.get_color() for t in said] == [colour]
    label = next(line for line in chimerax_script(told, {"map": "m", "scale": "s"}).splitlines()
                 if "look here" in line)  # fmt: skip
    assert f"color {colour}" in label
    loud = 'class="verdict bad"' in _opening(told.notices, bad_fit=False)
    assert loud == told.notices[0].grave == (colour == ALARM)


def test_other_notices_are_written_without_the_band() -> None:
    data = blob((48, 48, 48))
    masked = estimate(Volume.from_array(data * (blob((48, 48, 48), 0) > 0.02), 3.0, "masked"))
    assert [notice.code for notice in masked.notices] == ["masked"]
    said = texts(figures.slices_figure(masked))
    assert "masked or solvent-flattened" in said
    assert "BAD" not in said


def test_solvent_figure_marks_mean_lowest_confident_and_full_scale(plain: Estimate) -> None:
    figure = figures.solvent_figure(plain)
    marks = {
        line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() in (":", "--", "-.")
    }
    assert marks == {plain.solvent.mean, plain.curve.crossing(0.5), plain.full_scale.value}
    near, far = figures.value_spans(plain)
    assert near[0] < plain.solvent.mean < plain.curve.crossing(0.5) < near[1]
    assert far[0] < plain.solvent.mean < plain.full_scale.value < far[1]
    # The same scale in the legend as above it, and in the record.
    assert texts(figure).count(f"{plain.lowest_confident_scale:.2g}") == 2
    assert f"(scale {plain.lowest_confident_scale:.2g})" in texts(figure)


def test_the_histogram_goes_on_beyond_the_solvents_range_without_a_step() -> None:
    data = blob((48, 48, 48), 0.01)
    est = estimate(Volume.from_array(data, 3.0))
    assert est.solvent.region.high < est.lowpassed.max()
    region = est.solvent.region
    for span in figures.value_spans(est):
        density, edges = figures._histogram(est, span)
        np.testing.assert_allclose(np.diff(edges), edges[1] - edges[0])
        count = region.counts.sum() + (est.lowpassed > region.high).sum()
        assert (density * np.diff(edges)).sum() * region.counts.sum() == pytest.approx(count, rel=1e-4)


def test_modification_curves_are_the_formulas() -> None:
    settings = resolve(
        Settings(amplify=4, attenuate=3, sigmoid=5, pivot=0.4, scale_limit=0.1), (48,) * 3, (3.0,) * 3
    )
    scale = np.array([0.05, 0.2, 0.4, 0.9, 1.0], dtype=np.float32)
    amplified, attenuated, sigmoid = figures.modifications(settings, scale).values()
    changed = scale >= 0.1
    np.testing.assert_allclose(amplified, np.where(changed, scale**0.25, scale), rtol=1e-6)
    np.testing.assert_allclose(attenuated, np.where(changed, scale**3, scale), rtol=1e-6)
    assert sigmoid[0] == scale[0]
    assert sigmoid[2] == pytest.approx(0.4)
    assert sigmoid[1] < 0.2
    assert sigmoid[3] > 0.9


@pytest.mark.parametrize("power", [1, 3, 1e6])
def test_modification_figure_takes_every_power(power: float) -> None:
    asked = Settings(amplify=power, attenuate=power, sigmoid=power, scale_limit=0)
    figure = figures.modification_figure(resolve(asked, (48,) * 3, (3.0,) * 3), 0.3)
    said = texts(figure)
    for word in ("amplify", "attenuate", "sigmoid", "pivot 0.5", "scale < 0.30"):
        assert word in said
    figure.canvas.draw()


def test_files_are_written_whole_and_only_those_asked_for(
    plain: Estimate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canvas, "DPI", 30)
    folder = tmp_path / "new" / "folder"
    written = figures.write_figures(plain, folder, "a b")
    assert [path.name for path in written] == ["a b_slices.png", "a b_solvent.png", "a b_modification.png"]
    assert sorted(folder.iterdir()) == sorted(written)
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in written)
    for make in ("slices_figure", "solvent_figure"):
        monkeypatch.setattr(figures, make, lambda est: canvas.new_figure(1, 1))
    nothing = replace(plain, settings=replace(plain.settings, amplify=None, sigmoid=None))
    assert len(figures.write_figures(nothing, tmp_path, "b")) == 2
    with pytest.raises(OutputError):
        figures.write_figures(nothing, written[0], "c")


@pytest.mark.parametrize(("columns", "width"), [("one", 3.5), ("two", 7.2)])
def test_the_figure_of_a_paper_has_its_width_and_six_panels(
    plain: Estimate, columns: Literal["one", "two"], width: float, tmp_path: Path
) -> None:
    figure = figures._paper_figure(plain, columns)
    assert figure.get_size_inches()[0] == width
    panels = figure.axes[:6]
    sides = {axes.get_window_extent().width / np.ptp(axes.get_xlim()) for axes in panels}
    assert max(sides) == pytest.approx(min(sides))  # one scale
    assert all(axes.get_position().x0 >= 0 and axes.get_position().x1 <= 1 for axes in panels)
    assert figure.axes[6].get_xlabel() == "occupancy (1 = fully present)"
    nlf = estimate(plain.volume, Settings(estimator="nlf"))
    assert figures._paper_figure(nlf, columns).axes[6].get_xlabel() == "local scale (1 = fully present)"
    written = figures.write_paper_figure(plain, tmp_path, "a", columns)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(written.values())
    assert sorted(written.values()) == ["a_figure.pdf", "a_figure.png", "a_figure.svg"]


def test_neither_pyplot_nor_a_display_is_needed_and_matplotlib_is_loaded_late() -> None:
    code = "import sys, occupy.report.figures; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
    figure = canvas.new_figure(1, 1)
    assert type(figure.canvas).__name__ == "FigureCanvasAgg"
    assert not hasattr(figure, "number")  # which pyplot gives to the figures it keeps


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_picture_is_the_same_file(tmp_path, kind):
    from matplotlib.figure import Figure

    from occupy.report.canvas import write_picture

    def drawn(name: str, second: int) -> bytes:
        figure = Figure()
        axes = figure.add_subplot()
        axes.imshow([[0.0, 1.0]])
        axes.fill_between([0, 1], [0, 1], label="part")
        path = tmp_path / f"{name}.{kind}"
        os.environ["SOURCE_DATE_EPOCH"] = str(second)
        try:
            write_picture(path, figure)
        finally:
            del os.environ["SOURCE_DATE_EPOCH"]
        return path.read_bytes()

    assert drawn("one", 1_000_000_000) == drawn("two", 1_700_000_000)


def test_slices_show_matter_whole_and_no_specks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets with a gap narrower than the low-pass resolution (9 Å) are one; a speck or a cavity is not."""
    est = estimate(Volume.from_array(blob((48, 48, 48)), 3.0))
    low = np.zeros((48, 48), np.float32)
    low[10:40, [*range(8, 12), *range(13, 17), *range(24, 28)]] = est.full_scale.value
    low[4, 40] = est.full_scale.value
    scale = np.full((48, 48), 0.9, np.float32)
    # A cavity in a gap reads less than what is around it.
    scale[26:32, 12] = 0.3
    monkeypatch.setattr(slices, "_smoothed_scale", lambda *_: scale)
    monkeypatch.setattr(slices, "_lowpassed_slice", lambda *_: low)
    shown = ~np.ma.getmaskarray(slices.shown_scale(est, 0))
    voxels = shown.reshape(48, 12, 48, 12).mean(axis=(1, 3))
    assert voxels[15:25, 8:17].min() == 1
    assert not shown[29 * 12, 12 * 12 + 6]
    assert voxels[15:35, 19:22].max() == 0
    assert voxels[4, 40] == 0
