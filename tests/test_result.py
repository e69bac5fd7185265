"""A result: the same numbers whatever way a map came in, kept and given back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import occupy
from occupy.cli import main
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
    assert relion_job.run_job(words) == 0
    external = next((tmp_path / "External" / "job001").rglob("*_scale.mrc"))
    numbers, saved = scene_numbers(folder)
    python, of_one = occupy.estimate(folder / "a.mrc"), occupy.estimate_classes([folder / "a.mrc"])
    python.save(tmp_path / "python")
    of_one.save(tmp_path / "one")
    command = occupy.load(tmp_path / "cli")
    files = [tmp_path / place / "a_scale.mrc" for place in ("cli", "python", "one")]
    assert len({path.read_bytes() for path in [*files, external]}) == 1
    # In another thread transforms may differ in the last bit, and look-up tables have steps.
    header = 1024
    found, shown = (np.frombuffer(x[header:], np.float32) for x in (files[0].read_bytes(), saved))
    np.testing.assert_allclose(found, shown, atol=2e-4)
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
    assert set(found.maps["a"]) == {"scale", "confidence", "amplified", "uncertainty"}
    for what, lazy in found.maps["a"].items():
        np.testing.assert_array_equal(lazy.data, result.maps["a"][what].data)
    again = occupy.load(found.save(tmp_path / "copy"))
    assert again.record() == found.record()
    (tmp_path / "copy" / "a_scale.mrc").write_bytes((tmp_path / "copy" / "a_confidence.mrc").read_bytes())
    with pytest.raises(occupy.InputError, match="not as the run wrote it"):
        _ = again.scale


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
