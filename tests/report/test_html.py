"""Reports: one file, nothing from elsewhere, and plain about what is wrong."""

from __future__ import annotations

import base64
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from occupy.errors import Notice
from occupy.io.mrc import write_map
from occupy.pipeline import Estimate, estimate
from occupy.report.estimate_page import _circles, _estimate_page
from occupy.report.html import LARGEST, Section, heat_map, page, settings_table, table, verdict
from occupy.report.palette import SCALE_PALETTE, ink_on, scale_colour
from occupy.report.record import record_of
from occupy.report.surfaces import unpack
from occupy.settings import Settings
from occupy.volume import Volume


class Page(HTMLParser):
    """Collects tags, and complains where one is not closed."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words += data


def ball(masked: bool = False) -> Volume:
    rng = np.random.default_rng(2)
    z, y, x = np.indices((40,) * 3) - 19.5
    r2 = z**2 + y**2 + x**2
    data = np.where(r2 < 11**2, np.where(x < 0, 0.5, 1.0), 0.0) + 0.05 * rng.standard_normal((40,) * 3)
    if masked:
        data = np.where(r2 < 15**2, data, 0.0)
    return Volume.from_array(data.astype(np.float32), 2.5, "ball <b>&</b>")


def made(tmp_path: Path, volume: Volume) -> tuple[Estimate, str]:
    path = tmp_path / "map <1>.mrc"
    write_map(path, volume)
    est = estimate(volume, Settings(amplify=3.0))
    inputs = {"map": (volume, path)}
    record = record_of(
        est, Settings(amplify=3.0), inputs=inputs, outputs={}, variability_limit=0.9, command=["occupy"]
    )
    return est, _estimate_page(est, record)


def test_the_report_of_a_map_is_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    est, text = made(tmp_path, ball())
    found = Page(text)
    assert len(text) < LARGEST
    for _, attributes in found.tags:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"@import|url\(", text)
    policy = next(a["content"] for t, a in found.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert f"{est.full_scale.value:.4g}" in found.words
    assert "ball <b>&</b>" in found.words
    assert "map <1>.mrc" in found.words
    assert "Nothing doubtful" in found.words


def test_the_surface_in_the_report_is_that_of_the_map(tmp_path: Path) -> None:
    _, text = made(tmp_path, ball())
    packed = re.search(r'<script type="text/plain" class="mesh">([^<]+)</script>', text)
    assert packed is not None
    head, arrays = unpack(zlib.decompress(base64.b64decode(packed[1])))
    xyz = arrays["positions"].reshape(-1, 3) / 65535 * head["extent"] + head["origin"]
    assert np.median(np.linalg.norm(xyz - 19.5 * 2.5, axis=1)) == pytest.approx(11 * 2.5, rel=0.05)
    assert list(head["ranges"]) == ["occupancy", "scale", "confidence"]


def test_what_is_wrong_with_a_map_stands_at_the_top(tmp_path: Path) -> None:
    est, text = made(tmp_path, ball(masked=True))
    assert any(n.code == "masked" for n in est.notices)
    words = Page(text).words
    assert "not suitable" in words
    assert words.index("not suitable") < words.index("Full scale")
    assert 'class="verdict bad"' in text


def test_verdicts() -> None:
    assert 'class="verdict good"' in verdict([])
    assert 'class="verdict doubtful"' in verdict([Notice("x", "a < b")])
    assert "a &lt; b" in verdict([Notice("x", "a < b")])
    assert 'class="verdict bad"' in verdict([], bad="No.")


def test_pages_of_other_commands_escape_all_they_are_given() -> None:
    text = page(
        "<script>", "a & b", verdict([]), [Section("<i>", table([("<x>", "<y>", 1)], ("<h>", "", "")))]
    )
    found = Page(text)
    assert "<script>" in found.words
    assert "<i><x><y>" in re.sub(r"\s|<h>", "", found.words)
    assert "i" not in {tag for tag, _ in found.tags}


def test_the_heat_map_has_a_cell_for_every_number() -> None:
    text = heat_map(["a<b", "c"], ["k1", "k2"], [[0.0, 1.0], [None, float("nan")]], "Occupancy")
    found = Page(text)
    cells = [a["fill"] for tag, a in found.tags if tag == "rect"]
    assert cells == [SCALE_PALETTE[0][1], SCALE_PALETTE[-1][1], "#ffffff", "#ffffff"]
    assert "0.00" in found.words
    assert "1.00" in found.words
    assert "a<b" in found.words


def test_colours_meet_the_palette_at_its_steps() -> None:
    for fraction, colour in SCALE_PALETTE:
        assert scale_colour(fraction) == colour
    assert scale_colour(-3) == SCALE_PALETTE[0][1]


def test_numbers_are_read_on_every_colour_of_scale() -> None:
    def luminance(colour: str) -> float:
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for value in np.linspace(0, 1, 41):
        low, high = sorted(luminance(c) + 0.05 for c in (scale_colour(value), ink_on(scale_colour(value))))
        assert high / low > 3.5, value


def test_circles_are_round_and_closed() -> None:
    lines = _circles(np.array([1.0, 2.0, 3.0]), 5.0)
    assert lines.shape == (120, 2, 3)
    assert np.allclose(np.linalg.norm(lines - [1, 2, 3], axis=2), 5)


def test_settings_are_told_in_words_with_units() -> None:
    asked = {"lowpass": None, "mode": "occupancy", "amplify": 3.0}
    text = settings_table(asked, {**asked, "lowpass": 9.0, "shape": (64, 64, 64)})
    assert "<th>Low-pass resolution</th><td>9 Å</td><td>chosen by the program</td>" in text
    assert "<th>Write a map with weak content amplified</th><td>3</td>" in text
    assert "<th>Grid of the estimate (voxels)</th><td>64</td>" in text


def test_a_table_can_be_sorted_where_it_says_so() -> None:
    assert '<table class="sortable">' in table([("a", 1), ("b", 2)], ("name", "value"), sortable=True)
    assert "sortable" not in table([("a", 1)], ("name", "value"))
