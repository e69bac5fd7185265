"""A result: the same numbers whatever way a map came in, kept and given back."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import occupy
from occupy.cli import main
from occupy.model import AtomicModel, Residue
from occupy.regions.region import regions_of_masks
from occupy.relion import job as relion_job
from occupy.simulation import demo_structure, simulate_classes
from occupy.volume import LazyMap, Volume, compute_planes

PARTS = [{"G": 1.0, "A": 0.0}, {"G": 0.0, "A": 1.0}]


@pytest.fixture(scope="module")
def volumes() -> dict[str, Volume]:
    made = simulate_classes(
        demo_structure(), PARTS, voxel_size=4.0, resolution=9.0, signal_to_noise=20.0, seed=1
    )
    named = zip("ab", made.classes, strict=True)
    return {name: Volume.from_array(one.map, one.voxel_size, name) for name, one in named}


@pytest.fixture(scope="module")
def folder(volumes: dict[str, Volume], tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("maps")
    for name, volume in volumes.items():
        occupy.write_map(where / f"{name}.mrc", volume)
    return where


def grid(data: np.ndarray) -> Volume:
    return Volume.from_array(data.astype(np.float32), 2.0)


def test_planes_of_a_lazy_map_are_those_of_the_whole():
    data = grid(np.random.default_rng(0).standard_normal((9, 40, 60)))
    first = LazyMap.of(data)
    double = LazyMap.on(data, lambda _, __, planes: 2 * planes, sources=(first,), threads=2)
    centred = LazyMap.on(
        data, lambda _, __, planes: planes + 1, sources=(double,), finish=lambda whole: whole - whole.mean()
    )
    np.testing.assert_array_equal(double.planes(3, 7), 2 * data.data[3:7])
    assert not double.is_known
    np.testing.assert_array_equal(double.data, 2 * data.data)
    assert double.is_known
    assert abs(float(centred.data.mean(dtype=np.float64))) < 1e-6
    np.testing.assert_array_equal(centred.planes(2, 3), centred.data[2:3])
    with pytest.raises(ValueError, match="read-only"):
        double.data[0] = 0


def test_what_maps_share_is_computed_once():
    asked: list[tuple[int, int]] = []
    data = grid(np.ones((12, 8, 8)))

    def stream(start: int, stop: int):
        asked.append((start, stop))
        for z in range(start, stop, 5):
            yield z, min(z + 5, stop), data.data[z : min(z + 5, stop)]

    shared = LazyMap.on(data, stream=stream, threads=3)
    maps = {
        str(n): LazyMap.on(data, lambda _, __, planes, n=n: n * planes, sources=(shared,)) for n in range(4)
    }
    seen = {name: np.zeros(data.shape) for name in [*maps, "shared"]}

    def add(name: str, start: int, stop: int, planes: np.ndarray) -> None:
        seen[name][start:stop] += planes

    compute_planes({"shared": shared, **maps}, add)
    assert sorted(asked) == [(0, 4), (4, 8), (8, 12)]
    compute_planes({**maps, "shared": shared}, add)
    assert len(asked) == 6
    for n in range(4):
        np.testing.assert_array_equal(seen[str(n)], 2 * n * data.data)


def scene_numbers(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Return what the viewer finds of the map, and what it saves."""
    pytest.importorskip("starlette")
    from occupy.web.shelf import Shelf
    from occupy.web.viewer import Viewer

    viewer = Viewer(Shelf.of(folder))

    def done(job: str) -> dict[str, Any]:
        while (now := viewer.job(job))["state"] in ("waiting", "running"):
            time.sleep(0.01)
        assert now["state"] == "done", now["error"]
        return dict(now["result"])

    scene = done(viewer.open({"path": "a.mrc"}))["scene"]
    done(viewer.save({"id": scene, "settings": {}}))
    numbers = viewer.describe({"id": scene})["numbers"]
    viewer.close()
    return numbers, (folder / "occupy_a" / "a_scale.mrc").read_bytes()


def test_one_map_by_every_way_gives_the_same_scale_and_full_scale(folder: Path, tmp_path: Path):
    assert main.run(["estimate", str(folder / "a.mrc"), "-o", str(tmp_path / "cli"), "--quiet"]) == 0
    words = ["--in_3dref", str(folder / "a.mrc"), "--o", str(tmp_path / "External" / "job001")]
    assert relion_job._run_job(words) == 0
    external = next((tmp_path / "External" / "job001").rglob("*_scale.mrc"))
    numbers, saved = scene_numbers(folder)
    python, of_one = occupy.estimate(folder / "a.mrc"), occupy.estimate_classes([folder / "a.mrc"])
    python.save(tmp_path / "python")
    of_one.save(tmp_path / "one")
    command = occupy.load(tmp_path / "cli")
    files = [tmp_path / place / "a_scale.mrc" for place in ("cli", "python", "one")]
    assert {path.read_bytes() for path in [*files, external]} == {saved}
    job = occupy.load(external.parent)
    results = (python, of_one, command, job, occupy.load(tmp_path / "one"))
    values = {result.numbers["full_scale_value"] for result in results}
    assert len(values) == 1
    assert values.pop() == pytest.approx(numbers["full_scale_value"], rel=1e-6)
    for result in results:
        np.testing.assert_array_equal(result.scale, python.scale)
        assert result.names == ("a",)


def test_a_map_in_memory_is_kept_with_its_result(volumes, tmp_path: Path):
    result = occupy.estimate(volumes["a"], occupy.Settings(amplify=3))
    found = occupy.load(result.save(tmp_path / "r"))
    assert found.notices == result.notices
    assert set(found.maps["a"]) == {"scale", "confidence", "amplified", "occupancy", "uncertainty"}
    for what, lazy in found.maps["a"].items():
        np.testing.assert_array_equal(lazy.data, result.maps["a"][what].data)
    again = occupy.load(found.save(tmp_path / "copy"))
    assert again.record() == found.record()
    (tmp_path / "copy" / "a_scale.mrc").write_bytes((tmp_path / "copy" / "a_confidence.mrc").read_bytes())
    with pytest.raises(occupy.InputError, match="not as the run wrote it"):
        _ = again.scale


def test_a_folder_from_before_there_was_an_occupancy_map_answers_with_its_scale(volumes, tmp_path: Path):
    result = occupy.estimate(volumes["a"])
    result.save(tmp_path)
    path = tmp_path / "a_occupy.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["files"][record["outputs"].pop("occupancy")]
    (tmp_path / "a_occupancy.mrc").unlink()
    path.write_text(json.dumps(record), encoding="utf-8")
    old = occupy.load(tmp_path)
    np.testing.assert_array_equal(old.occupancy, result.scale)
    voxel = np.unravel_index(int(np.argmax(result.scale)), result.scale.shape)
    assert old.at(*volumes["a"].position(voxel)).value == pytest.approx(float(result.scale[voxel]))
    mask = occupy.read_map(tmp_path / "a_scale.mrc").data > 0.5
    (region,) = regions_of_masks([volumes["a"].with_data(mask.astype(np.float32))], volumes["a"])
    assert old.regions((region,)).kind == "scale"
    assert result.regions((region,)).kind == "occupancy"
    assert result.regions((region,)).values[0, 0] == pytest.approx(np.median(result.occupancy[mask]))


def test_a_set_is_given_back_and_reads_regions(folder: Path, tmp_path: Path):
    result = occupy.estimate_classes(folder)
    found = occupy.load(result.save(tmp_path / "set"))
    assert found.names == result.names
    assert found.numbers == result.numbers
    assert {n.code for n in found.notices} == {n.code for n in result.notices}
    for name in result.names:
        for what, lazy in result.maps[name].items():
            np.testing.assert_array_equal(found.maps[name][what].data, lazy.data)
    assert set(result.of_set) <= set(found.of_set)
    read = found.regions(result.parts)
    np.testing.assert_allclose(read.values, result.table.values, atol=1e-6)
    np.testing.assert_allclose(result.regions(result.parts).errors, result.table.errors, atol=1e-6)
    pytest.importorskip("matplotlib")
    found.plot(tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 1000


def test_a_folder_without_a_result_is_refused(tmp_path: Path, volumes):
    with pytest.raises(occupy.InputError, match=r"no \*_occupy.json there"):
        occupy.load(tmp_path)
    with pytest.raises(occupy.InputError, match="in memory"):
        occupy.estimate_classes(volumes, components=False).save(tmp_path / "x")


def test_settings_may_be_named_singly_and_a_map_may_be_an_array(volumes, folder: Path):
    volume = volumes["a"]
    plain = occupy.estimate(volume, occupy.Settings(lowpass=12, amplify=3))
    for result in (
        occupy.estimate(volume, lowpass=12, amplify=3),
        occupy.estimate(volume, occupy.Settings(amplify=3), lowpass=12),
        occupy.estimate(np.array(volume.data), voxel_size=4.0, lowpass=12, amplify=3),
        occupy.estimate(str(folder / "a.mrc"), voxel_size=4.0, lowpass=12, amplify=3),
    ):
        assert result.settings == plain.settings
        assert result.full_scale.value == plain.full_scale.value
    with pytest.raises(TypeError, match="'lowpas'; did you mean lowpass"):
        occupy.estimate(volume, lowpas=12)
    with pytest.raises(occupy.InputError, match="give voxel_size"):
        occupy.estimate(np.array(volume.data))
    with pytest.raises(occupy.InputError, match="has its own"):
        occupy.estimate(volume, voxel_size=3.0)
    with pytest.raises(occupy.InputError, match="lowpass must be positive"):
        occupy.estimate(volume, lowpass=-1)


def test_the_occupancy_at_a_place_and_along_a_line(volumes):
    moved = occupy.Volume(
        volumes["a"].data, (4.0,) * 3, occupy.Frame(origin=(10.0, -20.0, 30.0), sampling=(48,) * 3)
    )
    result = occupy.estimate(moved)
    voxel = np.unravel_index(int(np.argmax(result.occupancy)), result.occupancy.shape)
    place = moved.position(voxel)
    read = result.at(*place)
    assert read.value == pytest.approx(float(result.occupancy[voxel]))
    assert read.error == pytest.approx(float(result.uncertainty[voxel]))
    beside = (voxel[0], voxel[1], voxel[2] + 1)
    half = result.at(*(place + np.array((2.0, 0.0, 0.0))))
    assert half.value == pytest.approx((float(result.occupancy[voxel]) + float(result.occupancy[beside])) / 2)
    line = result.profile(tuple(place), tuple(place + np.array((8.0, 0.0, 0.0))))
    np.testing.assert_allclose(line.distance, [0, 2, 4, 6, 8])
    np.testing.assert_allclose(
        line.values[::2], result.occupancy[voxel[0], voxel[1], voxel[2] : voxel[2] + 3], atol=1e-6
    )
    assert line.values[1] == pytest.approx(half.value)
    with pytest.raises(occupy.InputError, match=r"\(0\.0, 0\.0, 0\.0\) Å is outside .* x 10\.0 to"):
        result.at(0, 0, 0)
    published = occupy.estimate(moved, estimator="local")
    assert np.isnan(published.at(*place).error)


def test_a_place_in_a_set_needs_the_name_of_a_map(folder: Path):
    result = occupy.estimate_classes(folder)
    what = result.maps["b"]["occupancy"]
    voxel = np.unravel_index(int(np.argmax(what.data)), what.shape)
    assert result.at(*what.volume().position(voxel), name="b").value == pytest.approx(float(what.data[voxel]))
    with pytest.raises(occupy.InputError, match="name one of the maps"):
        result.at(0, 0, 0)
    with pytest.raises(occupy.InputError, match="no map 'c'"):
        result.at(0, 0, 0, name="c")


def public_things(volumes: dict[str, Volume], folder: Path, tmp_path: Path) -> list[Any]:
    """Return one of every public type."""
    made = simulate_classes(demo_structure(), PARTS, voxel_size=4.0, resolution=9.0, seed=1)
    result, classes = occupy.estimate(volumes["a"]), occupy.estimate_classes(folder)
    model = AtomicModel(("m",), np.zeros((3, 3)), np.zeros(3), np.ones(3), (_residue(),))
    region = occupy.Region("part", "mask", np.arange(2000), volumes["a"].shape)
    read = result.regions((region,))
    estimate = result.estimate
    numbers = [estimate.full_scale, estimate.solvent, estimate.curve, estimate.facts]
    of_map = [result, estimate, *numbers, *result.maps["a"].values()]
    of_set = [classes, classes.estimate, classes.of_class(0), *classes.components]
    line = result.profile((10, 10, 10), (90, 90, 90))
    loaded = occupy.load(result.save(tmp_path / "r"))
    inputs = occupy.open_inputs(folder / "a.mrc")
    others = [made, made.classes[0], volumes["a"], volumes["a"].frame, model, region, read, line, loaded]
    return [*of_map, *of_set, *others, inputs, inputs.asked, occupy.Member("a", lambda: volumes["a"])]


def _residue() -> Residue:
    return Residue(0, "A", 1, "", "ALA", "1", "polymer")


def test_every_public_thing_says_what_it_is_in_one_line(volumes, folder: Path, tmp_path: Path):
    for thing in public_things(volumes, folder, tmp_path):
        said = repr(thing).replace(str(tmp_path), "").replace(str(folder), "")
        assert len(said) <= 110, said
        assert "\n" not in said
        assert "array(" not in said, said
    assert repr(occupy.Settings(lowpass=12)) == "Settings(lowpass=12)"
    assert repr(volumes["a"]) == "<Volume 'a': 48 × 48 × 48 voxels of 4 Å>"


def test_a_table_becomes_a_data_frame(volumes, monkeypatch: pytest.MonkeyPatch):
    values = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, np.nan]])
    table = occupy.OccupancyTable(
        ("A", "B"), ("x", "y", "z"), values, values / 10, np.array([5, 6]), np.array([1, 2]), np.ones(3) / 3
    )
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(occupy.InputError, match="pip install pandas"):
        table.to_pandas()
    monkeypatch.undo()
    pytest.importorskip("pandas")
    frame = table.to_pandas()
    matrix = frame.pivot(index="region", columns="map", values="occupancy")
    np.testing.assert_array_equal(matrix.to_numpy(), values)
    second = frame[(frame["region"] == "B") & (frame["map"] == "x")].iloc[0]
    assert second["error"] == pytest.approx(0.04)
    assert second["low_95"] == pytest.approx(table.low[1, 0])
    assert second["voxels"] == 6


def test_a_plot_shows_itself_where_pyplot_did_not_make_it(volumes):
    pytest.importorskip("matplotlib")
    figure = occupy.estimate(volumes["a"]).plot()
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_lowpass_finer_than_the_voxels_allow_is_said(volumes):
    fine = [n for n in occupy.estimate(volumes["a"], lowpass=5).notices if n.code == "fine-lowpass"]
    assert "voxels allow: those of 4 Å hold no details below 8 Å" in fine[0].text
    assert not [n for n in occupy.estimate(volumes["a"], lowpass=8).notices if n.code == "fine-lowpass"]


def test_every_stage_is_named_and_pictures_and_report_are_said(folder: Path, tmp_path: Path, capsys):
    from occupy.cli.estimate import Job, run_job, summarise
    from occupy.settings import Output, Settings

    pytest.importorskip("matplotlib")
    job = Job(Settings(), wanted=Output(plot=True, report=True))
    stages: list[str] = []
    inputs = occupy.open_inputs(folder / "a.mrc")
    written = run_job(inputs, tmp_path, job, None, lambda stage, *_: stages.append(stage))
    order = ["maps", "colours of surfaces", "pictures", "report"]
    assert [stage for stage in dict.fromkeys(stages) if stage in order] == order
    named = [stage for stage in dict.fromkeys(stages) if ": " in stage]
    assert named == [
        *("pictures: slices", "pictures: solvent"),
        *("report: surface", "report: slices", "report: solvent"),
    ]
    summarise(written, job)
    said = capsys.readouterr().out
    pictures = [*tmp_path.glob("*.png"), *tmp_path.glob("*.html")]
    assert len(pictures) > 1
    assert all(str(path) in said for path in pictures)
