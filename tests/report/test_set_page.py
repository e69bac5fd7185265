"""The reports of sets and of regions: what was found is said, and nothing comes from elsewhere."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

from occupy.regions.table import OccupancyTable
from occupy.report.html import LARGEST, in_one_module
from occupy.report.set_figures import by_difference
from occupy.report.set_page import _set_page, interval_table
from occupy.report.surfaces import level_in, unpack
from occupy.report.tables import read_table
from standin_set import write_set


def record_in(folder: Path, **changed) -> dict:
    record = json.loads((folder / "occupy_set.json").read_text(encoding="utf-8"))
    for i, entry in enumerate(record["maps"]):
        entry |= {"particles": 100 * (i + 1), "resolution_angstrom": 9.0, "path": f"/maps/{i} <x>.mrc"}
    names = ("composite", "mean_occupancy", "variability")
    return record | {
        "command": ["occupy", "classes", "my job", "--report"],
        "created": "now",
        "kind": "relion",
        "iteration": 25,
        "source": "/job/run_it025_model.star",
        "options": {"components": True, "lowpass": None},
        "inputs": {},
        "numbers": {"common_resolution_angstrom": 9.0},
        "components": [{"name": "lobe_a", "volume_angstrom3": 12345}],
        "outputs": {n: f"{n}.mrc" for n in names} | {"lobe_a": "components/lobe_a.mrc"},
        **changed,
    }


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "set", maps=8)


def meshes(text: str) -> list:
    packed = re.findall(r'class="mesh">([^<]+)<', text)
    return [unpack(zlib.decompress(base64.b64decode(mesh))) for mesh in packed]


def test_the_report_of_a_set_says_what_was_found(folder):
    text = _set_page(folder, record_in(folder), read_table(folder / "occupancy.csv"))
    assert len(text) < LARGEST
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "8 classes of 3,600 particles, compared at 9.0 Å" in text
    assert "1 part comes and goes between them, the largest of 12,345 Å³" in text
    # Core never changes, and lobe_a is a component: only lobe_b is left to differ.
    assert "1 of 2 regions differ" in text
    assert "occupy classes &#x27;my job&#x27; --report" in text
    assert "/maps/0 &lt;x&gt;.mrc" in text
    assert "Nothing doubtful" in text
    assert "components/lobe_a.mrc" in text


def test_no_share_of_particles_is_stated_where_a_set_says_none(folder):
    record = record_in(folder)
    table = read_table(folder / "occupancy.csv")
    assert "12.5 % of particles" in _set_page(folder, record, table)
    for entry in record["maps"]:
        entry["weight"] = None
    text = _set_page(folder, record, table)
    assert "% of particles" not in text
    assert "12.5 %" not in text


def test_surfaces_are_of_the_composite_and_six_classes_in_one_group(folder):
    found = meshes(text := _set_page(folder, record_in(folder), read_table(folder / "occupancy.csv")))
    assert len(found) == 7
    assert len(re.findall('"group": "set"', text)) == 7
    assert "6 of 8 classes are shown, largest share first" in text
    head, arrays = found[0]
    assert set(head["ranges"]) == {"mean_occupancy", "variability"}
    places = arrays["positions"].reshape(-1, 3)
    varying = arrays["colour:variability"]
    # The lobes lie along x; the core between them does not vary.
    middle = np.abs(places[:, 0] / 65535 - 0.5) < 0.1
    assert varying[middle].max() < 10
    assert varying[~middle].max() > 100
    # With the first class's lobe_a absent, its surface has no vertices there.
    _, first = found[1]
    assert first["positions"].reshape(-1, 3)[:, 0].max() < 0.68 * 65535


@pytest.mark.parametrize(
    ("code", "loud"), [("misaligned", True), ("iteration-0", True), ("small-class", False)]
)
def test_doubts_come_first(folder, code, loud):
    record = record_in(folder, notices=[{"code": code, "text": "beware <of> this"}])
    text = _set_page(folder, record, None)
    assert ('class="verdict bad"' in text) is loud
    assert text.index("beware &lt;of&gt; this") < text.index("What was found")
    assert "No regions were given" in text


@pytest.mark.parametrize(("looked", "words"), [(True, "No part differs"), (False, "were not looked for")])
def test_a_set_without_parts_says_so(folder, looked, words):
    record = record_in(folder, components=[], options={"components": looked})
    assert words in _set_page(folder, record, None)


def table_of(rows: int, maps: int) -> OccupancyTable:
    values = np.tile(np.linspace(0, 1, maps), (rows, 1)) * np.linspace(0, 1, rows)[:, None]
    names = [f"r{i}" for i in range(rows)], [f"m{i}" for i in range(maps)]
    ones = np.ones(rows)
    return OccupancyTable(*map(tuple, names), values, values * 0 + 0.1, ones, ones, np.ones(maps) / maps)


def test_large_tables_are_cut_and_say_so():
    found = table_of(200, 40)
    order = by_difference(found)
    assert order[:2] == [199, 198]
    text = interval_table(found, order)
    assert text.count("<tr>") == 61
    assert "60 of 200 regions, 12 of 40 maps" in text
    assert "(0.00–" in text


def test_regions_without_values_are_left_out():
    found = table_of(3, 2)
    values = found.values.copy()
    values[2] = np.nan
    holed = OccupancyTable(
        found.regions, found.maps, values, values, found.voxels, found.independent, found.weights
    )
    assert by_difference(holed) == [1, 0]


def test_many_maps_still_fit(folder):
    text = _set_page(folder, record_in(folder), table_of(500, 120))
    assert len(text) < LARGEST


def test_one_module_neither_imports_nor_exports():
    text = in_one_module("geometry.js", "surface.js", "report.js")
    assert not re.search(r"^(import|export)\b", text, flags=re.MULTILINE)
    assert text.index("function matrix(") < text.index("class SurfaceView")
    assert re.findall(r"^export .*", in_one_module("surface.js", "widget.js"), flags=re.MULTILINE) == [
        "export default { render };"
    ]


@pytest.mark.parametrize("masked", [False, True])
def test_the_level_is_above_the_noise_and_below_the_particle(masked):
    rng = np.random.default_rng(0)
    inside = np.zeros((40,) * 3, dtype=bool)
    inside[15:25, 15:25, 15:25] = True
    data = np.where(inside, 1.0, 0.05 * rng.standard_normal(inside.shape)).astype(np.float32)
    if masked:
        data[:12] = data[28:] = data[:, :12] = 0
    numbers = {
        "solvent": {"good_fit": True},
        "full_scale_value": 1.0,
        "map_range": [-0.2, 1.0],
        "lowest_confident_value": 0.3,
    }
    level = level_in(data, numbers)
    assert 0.1 < level < 0.95
    assert level_in(data, {**numbers, "solvent": {"good_fit": False}}) > 0.1
