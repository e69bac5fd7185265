"""Tables, pictures, record and page of the occupancy of parts from single images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from occupy.io.atomic import write_text
from occupy.io.mrc import write_map
from occupy.particles.columns import NUISANCES
from occupy.particles.pipeline import ParticleOccupancy
from occupy.particles.views import Views
from occupy.report.canvas import new_figure
from occupy.report.html import Section, figure_png, page, paragraph, table, verdict, write_page
from occupy.report.palette import DIFFERENCE, SCALE
from occupy.report.record import opening
from occupy.volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = (
    "part", "occupancy", "standard_error", "low_95", "high_95", "mean_amplitude", "level", "varies",
    "log_likelihood_gain", "relative_variance",
)  # fmt: skip
_PAIR_COLUMNS = ("part", "other", "correlation", "standard_error")
_BESIDE_COLUMNS = (
    "part", "images", "images_error", "map", "map_error", "difference_in_standard_errors", "why",
)  # fmt: skip
_COPY_COLUMNS = ("part", "copies", "share_of_particles", "standard_error")
_NEIGHBOUR_COLUMNS = ("part", "both_of_two_neighbours", "standard_error", "over_chance", "error_over_chance")
_VIEW_COLUMNS = (
    "part", "rot", "tilt", "particles", "occupancy", "standard_error", "expected_auc", "most_like",
)  # fmt: skip
_VIEWS = "views.tsv"
_COPIES, _NEIGHBOURS = "copies.tsv", "neighbours.tsv"
PARTS = "parts.tsv"
CORRELATIONS = "correlations.tsv"
STATES = "states.tsv"
PRESENCE = "presence.tsv"
_BESIDE = "images_and_map.tsv"

_READING = (
    "Occupancy is the share of the particles that have a part, relative to the parts that are there in all "
    "of them. Correlation is that of presence, over the particles: 1 means that two parts always come "
    "together, below 0 that they tend to exclude each other."
)

_GRAPH = (
    "Parts that come together (blue) or exclude each other (dashed red) more than three standard errors; "
    "the wider the line, the stronger the correlation"
)

_VIEWS_READING = (
    "A part's occupancy should not depend on the direction from which particles are seen. Where it does, it "
    "may be damaged at an interface (which also orients the particles), move, or poses are wrong. The "
    "expected area under the curve says how well a single image tells whether it has the part: 0.5 is "
    "guessing. A part is hidden behind the one whose projection is most like its own."
)

_COPIES_READING = (
    "Particles are symmetry-expanded. Over chance is the share of neighbouring pairs of which both are "
    "there, over what it were if they did not know of each other: above 1 they come together."
)

_BESIDE_READING = (
    "The same occupancy by two ways that share no numbers: from each image by itself, and from the grey "
    "values of the consensus map by the joint fit of the model's parts."
)


def _tsv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["\t".join(header)]
    lines += ["\t".join(f"{c:.4f}" if isinstance(c, float) else str(c) for c in row) for row in rows]
    return "\n".join(lines) + "\n"


def _part_rows(found: ParticleOccupancy) -> list[list[object]]:
    """One row per part: name, occupancy, error, interval, mean amplitude, level, varies, gain, variance."""
    low, high = found.interval()
    levels = found.levels
    return [
        [
            name, float(found.occupancy[i]), float(found.standard_error[i]), float(low[i]), float(high[i]),
            float(found.mean_amplitude[i]), float(found.states.levels[i] / levels.full),
            "yes" if levels.varying[i] else "no", float(levels.gain[i]), float(levels.relative_variance[i]),
        ]
        for i, name in enumerate(found.names)
    ]  # fmt: skip


def state_rows(found: ParticleOccupancy) -> list[tuple[int, float, float, int, str]]:
    """One row per state: number, population, error, particles, what it lacks."""
    rows = []
    counts = np.bincount(found.state, minlength=len(found.states.bits))
    for i, bits in enumerate(found.states.bits):
        absent = [name for name, there in zip(found.names, bits, strict=True) if not there]
        population, error = float(found.states.weights[i]), float(found.state_error[i])
        rows.append((i + 1, population, error, int(counts[i]), ", ".join(absent) or "nothing"))
    return rows


def in_words(found: ParticleOccupancy) -> list[str]:
    """One sentence for parts that come together: in how many particles, and never with or without what.

    Never means that no state was found to be needed that has one and lacks, or has, the other.
    """
    bits = found.states.bits
    varying = np.flatnonzero(found.levels.varying & bits.any(axis=0) & ~bits.all(axis=0))
    same = {bits[:, i].tobytes(): np.flatnonzero((bits[:, i] == bits.T).all(axis=1)) for i in varying}
    sentences = []
    for parts in sorted(same.values(), key=lambda each: -found.occupancy[each].mean()):
        others = np.setdiff1d(varying, parts)
        there = bits[np.ix_(bits[:, parts[0]], others)]
        text = f"In {found.occupancy[parts].mean():.0%} of the {found.particles.split()[1]} "
        text += f"{_listed(found, parts, 'and')} {'are' if len(parts) > 1 else 'is'} bound"
        tails = ["always together"] if len(parts) > 1 else []
        needs, never = others[there.all(axis=0)], others[~there.any(axis=0)]
        tails += [f"never without {_listed(found, needs, 'and')}"] if len(needs) else []
        tails += [f"never with {_listed(found, never, 'or')}"] if len(never) else []
        sentences.append(", and ".join([text, *tails]) + ".")
    return sentences


def _listed(found: ParticleOccupancy, parts: npt.NDArray[np.intp], word: str) -> str:
    *most, last = [found.names[i] for i in parts]
    return f"{', '.join(most)} {word} {last}" if most else last


def pair_rows(found: ParticleOccupancy) -> list[tuple[str, str, float, float]]:
    """One row per pair of parts that vary: names, correlation, error; strongest first."""
    varying = np.flatnonzero(found.levels.varying)
    pairs = [(i, j) for k, i in enumerate(varying) for j in varying[k + 1 :]]
    pairs.sort(key=lambda pair: -abs(found.correlation[pair]))
    return [
        (found.names[i], found.names[j], float(found.correlation[i, j]), float(found.correlation_error[i, j]))
        for i, j in pairs
    ]


def _beside_rows(found: ParticleOccupancy) -> list[list[object]]:
    """One row per part that images and map know: both occupancies with errors, their difference, why."""
    return [
        [b.name, b.images, b.images_error, b.map, b.map_error, b.difference, b.reason or "agree"]
        for b in found.beside
    ]


def _copy_rows(found: ParticleOccupancy) -> list[list[object]]:
    """One row per part and number of its copies: share of the particles, error."""
    return [
        [each.names[0], number, float(share), float(error)]
        for each in found.copies
        for number, (share, error) in enumerate(zip(each.shares, each.shares_error, strict=True))
    ]


def _neighbour_rows(found: ParticleOccupancy) -> list[list[object]]:
    """One row per part with copies: both of two neighbours, error; over chance, error."""
    return [
        [each.names[0], each.together, each.together_error, each.ratio, each.ratio_error]
        for each in found.copies
    ]


def _view_rows(found: ParticleOccupancy) -> list[list[object]]:
    """One row per part and direction of view: RELION's rot and tilt, what is seen from there, how well."""
    views = found.views
    if views is None:
        return []
    x, y, z = views.directions.T
    rot, tilt = np.degrees(np.arctan2(y, x)), np.degrees(np.arccos(z))
    return [
        [name, float(rot[v]), float(tilt[v]), int(views.particles[v]), float(views.occupancy[v, i]),
         float(views.standard_error[v, i]), float(views.tells[v, i]), found.names[views.hides[v, i]]]
        for i, name in enumerate(found.names)
        for v in range(len(rot))
    ]  # fmt: skip


def write_tables(folder: Path, found: ParticleOccupancy) -> dict[str, str]:
    """Write the tables; return product → file name."""
    write_text(folder / PARTS, _tsv(_COLUMNS, _part_rows(found)))
    write_text(folder / CORRELATIONS, _tsv(_PAIR_COLUMNS, pair_rows(found)))
    states = ("state", "population", "standard_error", "most_probable_in", "lacks")
    write_text(folder / STATES, _tsv(states, state_rows(found)))
    write_text(folder / PRESENCE, _presence_text(found))
    files = {"parts": PARTS, "correlations": CORRELATIONS, "states": STATES, "presence": PRESENCE}
    if found.views is not None:
        write_text(folder / _VIEWS, _tsv(_VIEW_COLUMNS, _view_rows(found)))
        files["views"] = _VIEWS
    if found.copies:
        write_text(folder / _COPIES, _tsv(_COPY_COLUMNS, _copy_rows(found)))
        write_text(folder / _NEIGHBOURS, _tsv(_NEIGHBOUR_COLUMNS, _neighbour_rows(found)))
        files |= {"copies": _COPIES, "neighbours": _NEIGHBOURS}
    if not found.beside:
        return files
    write_text(folder / _BESIDE, _tsv(_BESIDE_COLUMNS, _beside_rows(found)))
    return files | {"images_and_map": _BESIDE}


def _presence_text(found: ParticleOccupancy) -> str:
    """Table of particles, in the order of their file: state, its probability, probability of each part."""
    lines = ["\t".join(("particle", "state", "state_probability", *found.names))]
    for i, row in enumerate(found.presence):
        chances = "\t".join(f"{value:.4f}" for value in row)
        lines.append(f"{i + 1}\t{found.state[i] + 1}\t{found.state_probability[i]:.4f}\t{chances}")
    return "\n".join(lines) + "\n"


def particle_record(
    found: ParticleOccupancy,
    *,
    inputs: Mapping[str, Any],
    options: Mapping[str, Any],
    outputs: Mapping[str, str],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return the record as plain values."""
    spread = dict(zip(NUISANCES, found.offsets_spread.tolist(), strict=True))
    left = dict(zip(NUISANCES, found.offsets_left.tolist(), strict=True))
    return {
        **opening(command, "particles"),
        "inputs": dict(inputs), "options": dict(options),
        "numbers": {
            "particles": len(found.state),
            "parts": [dict(zip(_COLUMNS, row, strict=True)) for row in _part_rows(found)],
            "states": [{"population": float(w), "standard_error": float(e),
                        "parts": [n for n, b in zip(found.names, bits, strict=True) if b]}
                       for w, e, bits in zip(found.states.weights, found.state_error, found.states.bits,
                                             strict=True)],
            "by_view": [] if found.views is None else [
                {"part": name, "deviation": float(found.views.deviation[i]),
                 "by_chance": float(found.views.chance[i]), "depends": bool(found.views.dependent[i])}
                for i, name in enumerate(found.names)
            ],
            "residual": None if found.residual is None else {
                "agreement": found.residual.agreement, "power": found.residual.power,
                "mean": found.residual.mean, "sure": found.residual.sure,
            },
            "copies": [dict(zip(_COPY_COLUMNS, row, strict=True)) for row in _copy_rows(found)],
            "neighbours": [dict(zip(_NEIGHBOUR_COLUMNS, row, strict=True)) for row in _neighbour_rows(found)],
            "images_and_map": [dict(zip(_BESIDE_COLUMNS, row, strict=True)) for row in _beside_rows(found)],
            "common_error": found.levels.common_error,
            "error_of_poses": spread, "error_of_poses_left": left,
            "shell_frequency_per_angstrom": found.band.shell_frequency.tolist(),
            "scale": found.scaling.scale.tolist(), "noise_variance": found.scaling.noise.tolist(),
        },
        "notices": [{"code": n.code, "text": n.text} for n in found.notices],
        "outputs": dict(outputs),
    }  # fmt: skip


def write_particle_report(path: Path, found: ParticleOccupancy, source: str) -> Path:
    """Write the page: forest plot, correlations, states, and both occupancies where there is a map."""
    forest = figure_png(_forest_plot(found), "Occupancy of each part, 95 % interval")
    states = [
        [number, f"{share:.3f} ± {error:.3f}", count, lacks]
        for number, share, error, count, lacks in state_rows(found)
    ]
    header = ("state", "population", "particles (most probable)", "lacks")
    words = "".join(map(paragraph, in_words(found)))
    sections = [
        Section("Parts", words + paragraph(_READING) + forest),
        Section("States", table(states, header)),
    ]
    if found.maps:
        picture = figure_png(_maps_plot(found), "Projections of each state's reconstruction along z, y and x")
        sections[1] = Section("States", table(states, header) + picture)
    if found.levels.varying.sum() > 1:
        graph = figure_png(_correlation_plot(found), _GRAPH)
        rows = [[one, other, f"{value:+.2f} ± {error:.2f}"] for one, other, value, error in pair_rows(found)]
        pairs = table(rows[:30], ("part", "other", "correlation"))
        sections.insert(1, Section("Which come together", graph + pairs))
    if found.views is not None:
        picture = figure_png(_sphere_plot(found, found.views), "Occupancy by direction of view")
        sections.append(
            Section("Views", paragraph(_VIEWS_READING) + picture + _views_table(found, found.views))
        )
    if found.copies:
        sections.append(Section("Copies", paragraph(_COPIES_READING) + _copies_tables(found)))
    if found.beside:
        columns = ("part", "images", "map", "difference / standard error", "why")
        both = [
            [b.name, f"{b.images:.2f} ± {b.images_error:.2f}", f"{b.map:.2f} ± {b.map_error:.2f}",
             f"{b.difference:+.1f}", b.reason or "agree"]
            for b in found.beside
        ]  # fmt: skip
        sections.append(Section("Images and map", paragraph(_BESIDE_READING) + table(both, columns)))
    count = f"{len(found.state)} particles of {source}"
    return write_page(path, page("Who has what", count, verdict(found.notices), sections))


def write_maps(folder: Path, found: ParticleOccupancy, origin: tuple[float, float, float]) -> dict[str, str]:
    """Write reconstructions of states, and what no part accounts for; return product → file name."""
    maps = {f"state_{number}": volume for number, volume in found.maps.items()}
    if found.residual is not None:
        maps["residual"] = found.residual.volume
    for name, values in maps.items():
        volume = Volume.from_array(values, found.band.side / len(values), name)
        write_map(folder / f"{name}.mrc", replace(volume, frame=replace(volume.frame, origin=origin)), name)
    return {name: f"{name}.mrc" for name in maps}


def _maps_plot(found: ParticleOccupancy) -> Figure:
    """Projections of the reconstructions, a row for each state, all on one grey scale."""
    projections = [[volume.sum(axis=axis) for axis in (0, 1, 2)] for volume in found.maps.values()]
    top = float(np.percentile(projections, 99.8))
    figure = new_figure(6.0, 2.0 * len(projections), dpi=100, layout="constrained")
    for row, (number, images) in enumerate(zip(found.maps, projections, strict=True)):
        for column, image in enumerate(images):
            axes = figure.add_subplot(len(projections), 3, 3 * row + column + 1)
            axes.imshow(image, cmap="gray", vmin=-0.1 * top, vmax=top, origin="lower")
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(f"state {number}")
    return figure


def _views_table(found: ParticleOccupancy, views: Views) -> str:
    """One row per part: deviation by view, how well the best and the worst view tell, behind what."""
    rows = []
    for i, name in enumerate(found.names):
        there = np.flatnonzero(np.isfinite(views.tells[:, i]))
        best, worst = there[views.tells[there, i].argmax()], there[views.tells[there, i].argmin()]
        depends = "depends" if views.dependent[i] else ""
        tells = [f"{views.tells[cell, i]:.2f}" for cell in (best, worst)]
        numbers = [f"{views.deviation[i]:.3f}", f"{views.chance[i]:.2g}"]
        rows.append([name, *numbers, depends, *tells, found.names[views.hides[worst, i]]])
    header = ("part", "deviation", "by chance", "", "area, best view", "worst view", "there behind")
    return table(rows, header)


def _sphere_plot(found: ParticleOccupancy, views: Views) -> Figure:
    """Occupancy over the sphere of views (rot and 90° − tilt): parts that depend on the view most, first."""
    order = np.argsort(views.chance, kind="stable")
    chosen = [int(i) for i in order if found.levels.varying[i] or views.dependent[i]][:12]
    chosen = chosen or [int(order[0])]
    rows = -(-len(chosen) // 3)
    figure = new_figure(9.5, 2.2 * rows + 0.4, dpi=100, layout="constrained")
    x, y, z = views.directions.T
    size = 8 + 90 * views.particles / max(1, int(views.particles.max()))
    for number, i in enumerate(chosen, start=1):
        axes = figure.add_subplot(rows, 3, number, projection="mollweide")
        values = np.where(views.particles > 0, views.occupancy[:, i], np.nan)
        shown = axes.scatter(
            np.arctan2(y, x), np.arcsin(z), c=values, s=size, vmin=0, vmax=1.1, cmap="viridis"
        )
        axes.set_xticklabels([])
        axes.set_yticklabels([])
        axes.grid(alpha=0.3)
        axes.set_title(found.names[i] + (" (depends)" if views.dependent[i] else ""), size=9)
    figure.colorbar(shown, ax=figure.axes, shrink=0.8, label="occupancy")
    return figure


def _copies_tables(found: ParticleOccupancy) -> str:
    counts = [[name, number, f"{s:.3f} ± {e:.3f}"] for name, number, s, e in _copy_rows(found)]
    pairs = [
        [name, f"{t:.3f} ± {te:.3f}", f"{r:.2f} ± {re:.2f}"] for name, t, te, r, re in _neighbour_rows(found)
    ]
    return table(counts, ("part", "copies", "share of the particles")) + table(
        pairs, ("part", "both of two neighbours", "over chance")
    )


def _forest_plot(found: ParticleOccupancy) -> Figure:
    """Occupancies with intervals, the lowest on top; open circles for parts that are always there."""
    order = np.argsort(-found.occupancy, kind="stable")
    low, high = found.interval()
    figure = new_figure(6.5, min(20.0, 1.2 + 0.24 * len(order)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for row, i in enumerate(order):
        filled = bool(found.levels.varying[i])
        axes.plot([low[i], high[i]], [row, row], color="#444444", linewidth=1.5)
        axes.plot(found.occupancy[i], row, "o", color="#1b6ca8", fillstyle="full" if filled else "none")
    axes.set_yticks(range(len(order)), [found.names[i] for i in order], size=8)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("share of the particles that have it")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _correlation_plot(found: ParticleOccupancy) -> Figure:
    """Graph of the parts that vary: blue where they come together, dashed red where they exclude others."""
    varying = np.flatnonzero(found.levels.varying)
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(varying)) / len(varying)
    places = {found.names[i]: (np.cos(a), np.sin(a)) for i, a in zip(varying, angle, strict=True)}
    side = min(10.0, 3.5 + 0.15 * len(varying))
    figure = new_figure(side, side, dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for one, other, value, error in pair_rows(found):
        # Among many pairs, two standard errors are exceeded by chance.
        if abs(value) > 3 * error:
            colour, style = (DIFFERENCE[-1], "-") if value > 0 else (DIFFERENCE[0], "--")
            x, y = zip(places[one], places[other], strict=True)
            axes.plot(x, y, style, color=colour, linewidth=0.5 + 5 * abs(value), zorder=1)
    for name, (x, y) in places.items():
        axes.scatter(x, y, s=90, color=SCALE[-1], edgecolor="#444444", zorder=2)
        axes.text(1.15 * x, 1.15 * y, name, ha="center", va="center", size=9)
    axes.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal")
    axes.axis("off")
    return figure
