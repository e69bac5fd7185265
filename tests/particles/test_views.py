"""What views tell: a part that some views lack is flagged, others are not; how well each view tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from blob_images import CENTRES, NAMES, WIDTHS, blobs, projected
from occupy.particles.evidence import Evidence
from occupy.particles.pipeline import Options, ParticleOccupancy, grid_for, particle_occupancy
from occupy.particles.views import Views, _harmonics, _hiding, _sphere
from occupy.report.palette import DIFFERENCE
from occupy.report.particle_results import (
    _correlation_plot,
    _view_rows,
    in_words,
    write_particle_report,
    write_tables,
)

COUNT, SLOPE = 500, 0.35
Made = tuple[ParticleOccupancy, npt.NDArray[np.bool_]]


@pytest.fixture(scope="module")
def made() -> Made:
    """Part one is there in 60 % of all views; part two more often seen from above than from below."""
    rng = np.random.default_rng(0)
    matrices = Rotation.random(COUNT, rng=rng).as_matrix()
    bits = np.ones((COUNT, 4), dtype=bool)
    bits[:, 1] = rng.uniform(size=COUNT) < 0.6
    bits[:, 2] = rng.uniform(size=COUNT) < 0.6 + SLOPE * matrices[:, 2, 2]
    images = projected(bits, matrices, 1.5, rng, CENTRES, WIDTHS)
    options = Options(shortest=14.0)
    volumes = blobs(grid_for(images, options)[1], images.side)
    return particle_occupancy(images, NAMES, volumes, options, lambda *_: None), bits


def views_of(found: ParticleOccupancy) -> Views:
    assert found.views is not None
    return found.views


def test_a_part_that_some_views_lack_is_flagged(
    made: Made,
) -> None:
    found, views = made[0], views_of(made[0])
    assert views.dependent.tolist() == [False, False, True, False]
    assert views.deviation[2] == pytest.approx(SLOPE / 3**0.5, abs=0.06)
    expected = 0.6 + SLOPE * views.directions[:, 2]
    away = (views.occupancy[:, 2] - expected) / views.standard_error[:, 2]
    assert 0.4 < np.sqrt((away**2).mean()) < 1.8
    assert views.particles.sum() == COUNT
    assert [notice.code for notice in found.notices] == ["views"]
    assert "two (by 0." in found.notices[0].text


def test_images_tell_as_well_as_is_expected(made: Made) -> None:
    found, bits = made
    views = views_of(found)
    chance = found.presence[:, 1]
    ahead = chance[bits[:, 1]][:, None] > chance[~bits[:, 1]]
    assert np.nanmean(views.tells[:, 1]) == pytest.approx(ahead.mean(), abs=0.03)


def test_who_hides_behind_whom() -> None:
    """From above the second part looks like the third, from below like the first."""
    alike = np.array([[[4, 0, 0], [0, 2, 1], [0, 1, 3]], [[4, -1.5, 0], [-1.5, 2, 0.1], [0, 0.1, 3]]])
    upper = np.triu_indices(3)
    evidence = Evidence(np.zeros((2, 3), dtype=np.float32), alike[:, *upper].astype(np.float32), np.ones(3))
    hides = _hiding(evidence, np.array([0, 47]))
    assert hides[0, 1] == 2
    assert hides[47, 1] == 0
    assert hides[0, 2] == 1


def test_harmonics_are_orthonormal_on_the_sphere() -> None:
    harmonics = _harmonics(_sphere(20_000))
    np.testing.assert_allclose(harmonics.T @ harmonics / 20_000, np.eye(9), atol=2e-3)


def test_views_are_written(made: Made, tmp_path: Path) -> None:
    found = made[0]
    files = write_tables(tmp_path, found)
    lines = (tmp_path / files["views"]).read_text().splitlines()
    assert len(lines) == 1 + 4 * 48
    assert lines[0].split("\t")[:3] == ["part", "rot", "tilt"]
    # Rot and tilt are RELION's: the third row of its matrix is where an image looks.
    row, views = _view_rows(found)[5], views_of(found)
    rot, tilt = np.radians(float(str(row[1]))), np.radians(float(str(row[2])))
    along = [np.cos(rot) * np.sin(tilt), np.sin(rot) * np.sin(tilt), np.cos(tilt)]
    np.testing.assert_allclose(along, views.directions[5], atol=1e-9)
    page = write_particle_report(tmp_path / "report.html", found, "p.star").read_text()
    assert "there behind" in page
    assert "depends" in page


def test_who_needs_whom_is_said_in_words(made: Made) -> None:
    found = made[0]
    bits = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 0]], dtype=bool)
    levels = replace(found.levels, varying=np.array([False, True, True, True]))
    occupancy = np.array([1.0, 0.55, 0.55, 0.8])
    mixture = replace(found.states, bits=bits, weights=np.array([0.35, 0.45, 0.2]))
    both = replace(found, names=("core", "a", "b", "c"), occupancy=occupancy, levels=levels, states=mixture)
    assert in_words(both) == [
        "In 80% of the particles c is bound.",
        "In 55% of the particles a and b are bound, and always together.",
    ]
    apart = replace(both, states=replace(mixture, bits=bits[1:], weights=np.array([0.8, 0.2])))
    assert in_words(apart)[1] == (
        "In 55% of the particles a and b are bound, and always together, and never with c."
    )
    needs = replace(both, states=replace(mixture, bits=bits[:2]))
    assert in_words(needs) == ["In 55% of the particles a and b are bound, and always together."]
    chain = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 0, 1]], dtype=bool)
    chained = in_words(replace(both, states=replace(mixture, bits=chain)))
    assert chained[0] == "In 55% of the particles a is bound, and never without b."
    nothing = replace(both, states=replace(mixture, bits=np.ones((1, 4), dtype=bool), weights=np.ones(1)))
    assert in_words(nothing) == []


def test_the_graph_has_an_edge_where_parts_surely_come_together(made: Made) -> None:
    found = made[0]
    count = len(found.names)
    correlation, error = np.zeros((count, count)), np.full((count, count), 0.1)
    correlation[0, 1], correlation[1, 2], correlation[0, 2] = 0.7, -0.5, 0.25
    levels = replace(found.levels, varying=np.arange(count) < 3)
    figure = _correlation_plot(
        replace(found, levels=levels, correlation=correlation, correlation_error=error)
    )
    lines = [(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert lines == [(DIFFERENCE[-1], "-"), (DIFFERENCE[0], "--")]
    assert [text.get_text() for text in figure.axes[0].texts] == list(found.names[:3])
