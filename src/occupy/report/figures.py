"""Figures of an estimate: central slices, solvent fit, modification curves."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from occupy import modify
from occupy.io.atomic import make_folder
from occupy.pipeline import Estimate
from occupy.report.canvas import Page, confidence_colormap, new_figure, plain, scale_colormap, write_picture
from occupy.report.chimerax import tile_bounds, tile_sphere
from occupy.report.palette import ALARM, MINIMUM_SCALE, SOLVENT, WARNING
from occupy.report.slices import (
    central_slice,
    confidence_slice,
    file_axes,
    lowest_shown_scale,
    shown_occupancy,
    shown_scale,
)
from occupy.resolve import ResolvedSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float32]

AXES = "zyx"
_ALARM_TEXT = "BAD SOLVENT FIT — do not trust the confidence, nor maps weighted by it"
_WIDTH = 9.6  # inches; every measure below in inches is for this width
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072b2", "#e69f00", "#009e73", "#cc79a7"  # Okabe & Ito


def _tile_rectangle(est: Estimate, axis: int) -> tuple[float, float, float, float] | None:
    """Return where the full-scale tile shows on a central slice.

    Returns
    -------
    tuple of float or None
        left, bottom, width, height in Å from the slice's lower left corner; None where the slice does not
        cross the tile.
    """
    order = list(file_axes(est.volume))
    low, high = (edge[order] + 0.5 for edge in tile_bounds(est, est.full_scale.largest))
    size = np.array(est.volume.voxel_size)[order]
    middle = est.volume.shape[order[axis]] // 2 + 0.5
    if not low[axis] <= middle <= high[axis]:
        return None
    up, right = (i for i in range(3) if i != axis)
    width, height = ((high - low) * size)[[right, up]]
    return float(low[right] * size[right]), float(low[up] * size[up]), float(width), float(height)


def _halo(width: float) -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=width, foreground="black")]


def _notice_lines(est: Estimate, width: int) -> list[str]:
    texts = ["! " + plain(notice.text, 10_000) for notice in est.notices if notice.doubtful]
    wrapped = (textwrap.wrap(text, width, subsequent_indent="  ") for text in texts)
    return [line for lines in wrapped for line in lines]


def _severity(est: Estimate) -> str:
    """Return the colour of the worst notice."""
    return ALARM if any(notice.grave for notice in est.notices) else WARNING


def _headline(figure: Figure, est: Estimate, title: str) -> float:
    """Write title, one line of numbers and, where due, a loud band; return the height used in inches."""
    height = figure.get_figheight()
    s = est.settings
    source = {"maximum": "maximum of the map"}.get(est.full_scale.source, est.full_scale.source)
    if est.calibration is not None:
        source = "95 % {:.3g} to {:.3g}".format(*est.calibration.interval)
    numbers = (
        f"{s.mode} mode  ·  low-pass {s.lowpass:.3g} Å  ·  footprint {s.kernel_voxels} voxels  ·  "
        f"full scale {est.full_scale.value:.3g} ({source})  ·  lowest confident scale "
        f"{est.lowest_confident_scale:.2g}"
    )
    left = 0.35 / figure.get_figwidth()
    figure.text(left, 1 - 0.2 / height, title, size=13, weight="bold", va="top")
    figure.text(left, 1 - 0.47 / height, numbers, size=8.5, color="#444444", va="top")
    if not est.solvent_fit_is_bad:
        return 0.72
    band = {"facecolor": ALARM, "edgecolor": ALARM, "boxstyle": "square,pad=0.45"}
    look: dict[str, Any] = {"size": 12, "weight": "bold", "color": "white", "ha": "center", "va": "center"}
    figure.text(0.5, 1 - 0.88 / height, _ALARM_TEXT, bbox=band, **look)
    return 1.15


def _footer(figure: Figure, lines: list[str], height: float, colour: str) -> None:
    """Write lines whose lowest stands ``height`` inches above the figure's lower edge."""
    x, y = 0.35 / figure.get_figwidth(), height / figure.get_figheight()
    figure.text(x, y, "\n".join(lines), size=8, color=colour, va="bottom", linespacing=1.35)


def _nice_length(extent: float) -> float:
    """Return a round length (1, 2 or 5 times a power of ten) of about a quarter of ``extent``."""
    power = 10.0 ** np.floor(np.log10(extent / 4))
    return float(max(step * power for step in (1, 2, 5) if step * power <= extent / 4))


def _scale_bar(axes: Axes, width: float, height: float) -> None:
    length, right, y = _nice_length(width), 0.96 * width, 0.06 * height
    ends = [right - length, right]
    axes.plot(ends, [y, y], color="white", lw=2.5, solid_capstyle="butt", path_effects=_halo(4.5))
    look: dict[str, Any] = {"color": "white", "size": 8, "ha": "center", "va": "bottom"}
    axes.text(right - length / 2, y + 0.025 * height, f"{length:g} Å", path_effects=_halo(2), **look)


def _panel(axes: Axes, image: Array, est: Estimate, axis: int, column: int, look: dict[str, Any]) -> Any:
    """Draw one slice in Å with its tile; return the image for a colour bar."""
    from matplotlib.patches import Rectangle

    order = file_axes(est.volume)
    up, right = (i for i in range(3) if i != axis)
    height, width = (est.volume.shape[order[i]] * est.volume.voxel_size[order[i]] for i in (up, right))
    drawn = axes.imshow(image, origin="lower", extent=(0, width, 0, height), interpolation="bicubic", **look)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(f"{AXES[right]} →", size=8, labelpad=1.5, loc="left", color="#444444")
    axes.set_ylabel(f"{AXES[up]} →", size=8, labelpad=1.5, loc="bottom", color="#444444")
    box = _tile_rectangle(est, axis)
    if box is not None and est.full_scale.source == "tile":
        axes.add_patch(Rectangle(box[:2], *box[2:], fill=False, ec="white", lw=1.4, path_effects=_halo(3)))
    name = f"{AXES[axis]} slice {est.volume.shape[order[axis]] // 2}"
    look = {"va": "top", "color": "white", "size": 8.5, "path_effects": _halo(2)}
    axes.text(0.03, 0.97, name, transform=axes.transAxes, **look)
    if column == 0:
        _scale_bar(axes, width, height)
    return drawn


def _looks(est: Estimate, inputs: list[Array]) -> list[dict[str, Any]]:
    """Return how to draw input, scale and confidence."""
    from matplotlib.colors import Normalize

    low, high = np.quantile(np.concatenate([image.ravel() for image in inputs]), [0.002, 0.998])
    if not high > low:
        low, high = est.facts.low, est.facts.high
    colours = scale_colormap().with_extremes(bad=SOLVENT)
    return [
        {"cmap": "gray", "norm": Normalize(float(low), float(high))},
        {"cmap": colours, "norm": Normalize(MINIMUM_SCALE, 1.0)},
        {"cmap": confidence_colormap(), "norm": Normalize(0.0, 1.0)},
    ]


def slices_figure(est: Estimate) -> Figure:
    """Draw the three central slices of input, local scale and confidence.

    Parameters
    ----------
    est : Estimate
        From `occupy.estimate`.

    Returns
    -------
    matplotlib.figure.Figure
        Rows: slices across z, y and x. Columns: input, scale (colours as in ChimeraX, grey below
        `lowest_shown_scale`), confidence. The outlined square is the tile that
        gave full scale, where one did.
    """
    lowest = lowest_shown_scale(est)
    inputs = [central_slice(est.volume, est.volume.data, axis) for axis in range(3)]
    confidences = [confidence_slice(est, axis) for axis in range(3)]
    scales = [shown_scale(est, axis) for axis in range(3)]
    looks = _looks(est, inputs)
    figure, grid, bars = _slices_grid(est)
    titles = (
        "Input map",
        f"Local scale (grey below {lowest:.2f} and in the rim)",
        "Confidence (content, not solvent)",
    )
    units = ("map value", "local scale (1 = fully present)", "confidence")
    columns: tuple[list[Any], ...] = (inputs, scales, confidences)
    for column, images in enumerate(columns):
        for axis, image in enumerate(images):
            drawn = _panel(grid[axis][column], image, est, axis, column, looks[column])
        grid[0][column].set_title(titles[column], size=9.5, pad=5)
        extend = ("both", "neither", "neither")[column]
        bar = figure.colorbar(drawn, cax=bars[column], orientation="horizontal", extend=extend)
        bar.set_label(units[column], size=8.5)
        bar.ax.tick_params(labelsize=8)
    return figure


def _slices_grid(est: Estimate) -> tuple[Figure, list[list[Axes]], list[Axes]]:
    """Lay out three by three panels, all at one scale, with a colour bar under each column."""
    order = file_axes(est.volume)
    z, y, x = (est.volume.shape[i] * est.volume.voxel_size[i] for i in order)
    column = (_WIDTH - 0.35 * 2 - 0.25 * 2) / 3
    widest = max(x, y)
    # Very long boxes would make a figure of any height; then the panels shrink instead.
    heights = [min(side / widest * column, 2.2 * column) for side in (y, z, z)]
    lines = _notice_lines(est, 140)
    top = 1.42 if est.solvent_fit_is_bad else 1.0
    bottom = 1.1 + 0.155 * len(lines)
    total = top + sum(heights) + 2 * 0.22 + bottom
    figure = new_figure(_WIDTH, total)
    _headline(figure, est, plain(est.volume.name, 50) + ": local scale")
    if est.full_scale.source == "tile":
        _footer(figure, [_tile_note(est)], 0.18 + 0.155 * len(lines), "#444444")
    _footer(figure, lines, 0.14, _severity(est))
    grid, y0 = [], total - top
    for height in heights:
        y0 -= height
        row = [(0.35 + i * (column + 0.25)) / _WIDTH for i in range(3)]
        grid.append([figure.add_axes((x0, y0 / total, column / _WIDTH, height / total)) for x0 in row])
        y0 -= 0.22
    y0 = y0 - 0.12
    starts = [(0.35 + i * (column + 0.25) + 0.08 * column) / _WIDTH for i in range(3)]
    size = (0.84 * column / _WIDTH, 0.11 / total)
    return figure, grid, [figure.add_axes((x0, y0 / total, *size)) for x0 in starts]


def _paper_figure(est: Estimate, columns: Literal["one", "two"]) -> Figure:
    """Draw central slices of input and occupancy for a paper, one or two columns wide (89 or 183 mm).

    Nothing is written around them: what a reader must know belongs into the legend of the paper.

    Returns
    -------
    matplotlib.figure.Figure
        One column: slices across z, y, x under each other, input and occupancy beside each other; two
        columns: the other way round. All at one scale.
    """
    inputs = [central_slice(est.volume, est.volume.data, axis) for axis in range(3)]
    looks = _looks(est, inputs)
    images: list[list[Any]] = [list(inputs), [shown_occupancy(est, axis) for axis in range(3)]]
    z, y, x = (est.volume.shape[i] * est.volume.voxel_size[i] for i in file_axes(est.volume))
    sizes = ((x, y), (x, z), (y, z))  # of the slices across z, y, x
    # What stands where: input (0) or occupancy (1), and the axis that is cut.
    down = [[(k, axis) for axis in range(3)] for k in (0, 1)]
    grid = [list(row) for row in zip(*down, strict=True)] if columns == "one" else down
    width, edge, gap = 3.5 if columns == "one" else 7.2, 0.2, 0.22
    widest = [max(sizes[axis][0] for _, axis in column) for column in zip(*grid, strict=True)]
    inch = (width - edge - gap * (len(widest) - 1) - 0.05) / sum(widest)
    tall = [max(sizes[axis][1] for _, axis in row) * inch + gap for row in grid]
    page = Page.of(width, 0.05 + sum(tall) + 0.5)
    for i, row in enumerate(grid):
        for j, (k, axis) in enumerate(row):
            left, top = edge + sum(widest[:j]) * inch + gap * j, 0.05 + sum(tall[:i])
            axes = page.axes(left, top, sizes[axis][0] * inch, sizes[axis][1] * inch)
            drawn = _panel(axes, images[k][axis], est, axis, i + j, looks[k])
    place = page.axes(edge + 0.1, page.height - 0.42, min(2.4, width - 0.5), 0.09)
    bar = page.figure.colorbar(drawn, cax=place, orientation="horizontal")
    what = "local scale" if est.calibration is None else "occupancy"
    bar.set_label(f"{what} (1 = fully present)", size=7, labelpad=1)
    bar.ax.tick_params(labelsize=7, length=2, pad=1.5)
    return page.figure


def _tile_note(est: Estimate) -> str:
    centre, radius = tile_sphere(est, est.full_scale.largest)
    seen = [AXES[axis] for axis in range(3) if _tile_rectangle(est, axis) is not None]
    where = ", ".join(f"{value + 0.0:.0f}" for value in centre)
    crossed = "outlined" if seen else "on none of these slices"
    return (
        f"□ the tile that gave full scale: {2 * radius:.0f} Å wide around (x, y, z) = ({where}) Å, {crossed}"
    )


def solvent_figure(est: Estimate) -> Figure:
    """Draw the histogram of low-passed values, the solvent fit and the confidence it gives.

    Left: the solvent peak. Right: everything up to full scale. Upper axis: value / full scale.
    """
    lines = _notice_lines(est, 140)
    height = 4.9 + 0.155 * len(lines) + (0.43 if est.solvent_fit_is_bad else 0)
    figure = new_figure(_WIDTH, height)
    used = _headline(figure, est, plain(est.volume.name, 50) + ": solvent and confidence")
    _footer(figure, lines, 0.14, _severity(est))
    bottom = (0.25 + 0.155 * len(lines) + 1.0) / height
    top = 1 - (used + 0.62) / height
    titles = ("Solvent peak", "Up to full scale")
    handles: list[Any] = []
    for i, (span, title) in enumerate(zip(value_spans(est), titles, strict=True)):
        axes = figure.add_axes((0.075 + i * 0.475, bottom, 0.385, top - bottom))
        handles = _solvent_panel(axes, est, span)
        axes.set_title(title, size=9.5, pad=31)
        if i == 0:
            axes.set_ylabel("density of voxels (per unit of map value)", size=8.5)
    where = (0.5, (0.25 + 0.155 * len(lines)) / height)
    look: dict[str, Any] = {"ncols": 3, "fontsize": 8, "frameon": False}
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=where, **look)
    return figure


def value_spans(est: Estimate) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return two ranges of map values: around the solvent's peak, and up to full scale."""
    mean, sigma = est.solvent.mean, est.solvent.sigma
    crossing = est.curve.crossing(0.5)
    far = max(est.full_scale.value, crossing, est.curve.crossing(0.999))
    near = min(mean - 8 * sigma, est.solvent.region.low)
    # A solvent without width still needs an axis with some.
    reach = max(6 * sigma, 3 * est.solvent.region.width)
    return (mean - reach, max(mean + reach, crossing + reach / 3)), (near, far + 0.05 * (far - near))


def _solvent_panel(axes: Axes, est: Estimate, span: tuple[float, float]) -> list[Any]:
    """Draw one range of values; return what belongs into the legend."""
    solvent, full, crossing = est.solvent, est.full_scale.value, est.curve.crossing(0.5)
    region = solvent.region
    density, edges = _histogram(est, span)
    floor = 0.25 / (max(1, int(region.counts.sum())) * (edges[1] - edges[0]))
    filled: dict[str, Any] = {"baseline": floor, "fill": True, "color": "#b8c4cc"}
    bars = axes.stairs(np.maximum(density, floor), edges, label="low-passed values", **filled)
    x = np.linspace(*span, 1500)
    with np.errstate(under="ignore"):
        fit = solvent.density(x)
    fit[fit <= floor] = np.nan
    known = f", misfit {solvent.misfit:.0%}" if np.isfinite(solvent.misfit) else ""
    (fitted,) = axes.plot(x, fit, color="black", lw=1.4, label=f"Gaussian solvent{known}")
    axes.set(yscale="log", xlim=span, ylim=(floor, 4 * max(density.max(), solvent.height)))
    axes.set_xlabel("low-passed map value", size=8.5)
    axes.tick_params(labelsize=8)
    axes.ticklabel_format(axis="x", scilimits=(-3, 4))
    axes.xaxis.get_offset_text().set_fontsize(8)
    right = axes.twinx()
    confidence = est.curve(x.astype(np.float32))
    (curve,) = right.plot(x, confidence, color=_BLUE, lw=1.8, label="confidence (right axis)")
    right.set_ylim(-0.02, 1.08)
    right.tick_params(labelsize=8, colors=_BLUE)
    right.set_ylabel("confidence", size=8.5, color=_BLUE)
    lowest = f"lowest confident value {crossing:.3g} (scale {est.lowest_confident_scale:.2g})"
    lines = [
        axes.axvline(solvent.mean, color="#555555", ls=":", lw=1.3, label=f"solvent mean {solvent.mean:.3g}"),
        axes.axvline(crossing, color=_ORANGE, ls="--", lw=1.5, label=lowest),
        axes.axvline(full, color=_GREEN, ls="-.", lw=1.5, label=f"full scale {full:.3g}"),
    ]
    top = axes.secondary_xaxis("top", functions=(_divide_by(full), _divide_by(1 / full)))
    top.set_xlabel("value / full scale", size=8.5)
    top.tick_params(labelsize=8)
    return [bars, fitted, curve, *lines]


def _divide_by(unit: float) -> Callable[[Any], Any]:
    return lambda values: values / unit


def _histogram(
    est: Estimate, span: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return density and edges of low-passed values in bins of one width, about 150 to a range of values.

    Up to the end of the solvent's histogram they are its bins, put together; above, values are counted in
    the whole box, in a sample of large maps: values that high are content, which lies in the region.
    """
    region = est.solvent.region
    together = max(1, round((span[1] - span[0]) / 150 / region.width))
    width = together * region.width
    counts = np.pad(region.counts, (0, -len(region.counts) % together)).reshape(-1, together).sum(axis=1)
    step = max(1, int((est.lowpassed.size / 4e6) ** (1 / 3)))
    sample = est.lowpassed[::step, ::step, ::step]
    above = sample[sample > region.high]
    top = max(float(above.max()) if above.size else region.high, region.high)
    edges = region.edges[0] + width * np.arange(
        max(len(counts), int((top - region.edges[0]) / width) + 1) + 1
    )
    found = np.histogram(above, bins=edges)[0] * float(step**3)
    found[: len(counts)] += counts
    return found / (max(1, int(region.counts.sum())) * width), edges


def modifications(settings: ResolvedSettings, scale: Array) -> dict[str, Array]:
    """Return the scale that each modification asked for makes of a scale.

    Parameters
    ----------
    settings : ResolvedSettings
        Which modifications, how strong, from which scale on.
    scale : ndarray of float32
        Input scale in [0, 1].

    Returns
    -------
    dict
        Label → output scale: S·S^(1/γ−1), S·S^(γ−1), and the sigmoid.
    """
    s, limit = settings, settings.scale_limit
    out: dict[str, Array] = {}
    if s.amplify is not None:
        out[f"amplify, power {s.amplify:g}"] = scale * modify.amplification(scale, s.amplify, limit)
    if s.attenuate is not None:
        out[f"attenuate, power {s.attenuate:g}"] = scale * modify.attenuation(scale, s.attenuate, limit)
    if s.sigmoid is not None:
        label = f"sigmoid, power {s.sigmoid:g}, pivot {s.pivot:g}"
        out[label] = scale * modify.sigmoid_gain(scale, s.sigmoid, s.pivot, limit)
    return out


def modification_figure(settings: ResolvedSettings, lowest_confident_scale: float) -> Figure:
    """Draw output scale against input scale for every modification asked for.

    Parameters
    ----------
    settings : ResolvedSettings
        Which modifications.
    lowest_confident_scale : float
        Scale below which a voxel is rather solvent than content (0 when recalibrated).
    """
    figure = new_figure(5.2, 6.1)
    axes = figure.add_axes((0.125, 0.23, 0.82, 0.715))
    scale = np.linspace(0, 1, 2001, dtype=np.float32)
    axes.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--", label="unchanged")
    looks = (_BLUE, _ORANGE, _PURPLE)
    jump = int(np.searchsorted(scale, settings.scale_limit))
    for (label, out), colour in zip(modifications(settings, scale).items(), looks, strict=False):
        if 0 < jump < len(scale):
            out[jump] = np.nan  # no line through a jump
        axes.plot(scale, out, color=colour, lw=2, label=label)
    if settings.sigmoid is not None:
        axes.plot(settings.pivot, settings.pivot, "o", color=_PURPLE, mec="white", ms=8, zorder=5)
    limit = settings.scale_limit
    lowest = lowest_confident_scale
    if lowest > 0:
        axes.axvspan(
            0, lowest, color="black", alpha=0.08, lw=0, label=f"rather solvent (scale < {lowest:.2f})"
        )
    if limit > 0:
        hatch: dict[str, Any] = {"facecolor": "none", "edgecolor": "#888888", "hatch": "////", "lw": 0}
        axes.axvspan(0, limit, label=f"never modified (scale < {limit:g})", **hatch)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    axes.set_xlabel("local scale of the input", size=9)
    axes.set_ylabel("local scale of the modified map", size=9)
    axes.tick_params(labelsize=8.5)
    axes.set_title("What the modification does, where confidence is 1", size=10)
    axes.grid(color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
    figure.legend(fontsize=8, loc="lower center", ncols=2, frameon=False, bbox_to_anchor=(0.53, 0.015))
    return figure


def write_paper_figure(
    est: Estimate, folder: Path, stem: str, columns: Literal["one", "two"]
) -> dict[str, str]:
    """Write ``<stem>_figure.png`` (300 dpi), ``.svg`` and ``.pdf``; return product → file name."""
    figure = _paper_figure(est, columns)
    names = {f"figure_{kind}": f"{stem}_figure.{kind}" for kind in ("png", "svg", "pdf")}
    for name in names.values():
        write_picture(make_folder(folder) / name, figure)
    return names


def write_figures(est: Estimate, folder: Path, stem: str, begin: Callable[[str], str] = str) -> list[Path]:
    """Write the figures of an estimate as PNG, each complete or not at all; return their paths.

    Names are ``<stem>_slices.png``, ``<stem>_solvent.png`` and, if a modification was asked for,
    ``<stem>_modification.png``; the folder is made if missing. ``begin`` is told each
    figure's name before it is drawn, and returns it.
    """
    make_folder(folder)
    s = est.settings
    figures: dict[str, Callable[[], Figure]] = {
        "slices": lambda: slices_figure(est),
        "solvent": lambda: solvent_figure(est),
    }
    if not s.amplify is s.attenuate is s.sigmoid is None:
        lowest = 0.0 if s.recalibrate else est.lowest_confident_scale
        figures["modification"] = lambda: modification_figure(s, lowest)
    written: list[Path] = []
    for what, draw in figures.items():
        path = folder / f"{stem}_{begin(what)}.png"
        write_picture(path, draw())
        written.append(path)
    return written
