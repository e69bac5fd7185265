"""What the page can ask for, without HTTP and browser: right numbers, right geometry, right files."""

from __future__ import annotations

import json
import shlex
import shutil
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gemmi
import numpy as np
import pytest

import occupy
from occupy import masks, modify
from occupy.errors import InputError
from occupy.inputs import Inputs
from occupy.io.mrc import read_map, write_map
from occupy.report.surfaces import pack, to_bytes, unpack
from occupy.report.tables import read_table
from standin_set import occupancies, write_set

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from occupy.web.shelf import Shelf
from occupy.web.viewer import Viewer

Wait = Any


@pytest.fixture
def opened(viewer: Any, finished: Wait) -> dict[str, Any]:
    """Return the description of the map, opened."""
    job = finished(viewer, viewer.open({"path": "blob.mrc"}))
    assert job["state"] == "done", job["error"]
    return viewer.describe({"id": job["result"]["scene"]})


@pytest.fixture
def truth(shelf_folder: Path) -> occupy.Estimate:
    return occupy.estimate(read_map(shelf_folder / "blob.mrc"))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keep estimates from going on until this event is set."""
    go, estimate = threading.Event(), Inputs.estimate

    def waiting(self: Inputs, settings: Any = None, progress: Any = None) -> Any:
        while not go.wait(0.01):
            progress("low-pass", 1, 4)
        return estimate(self, settings, progress)

    monkeypatch.setattr(Inputs, "estimate", waiting)
    yield go
    go.set()


def under_way(viewer: Any, started: dict[str, Any]) -> dict[str, Any]:
    """Return a job that waits in its estimate."""
    for _ in range(1500):
        job = viewer.job(started)
        if job["stage"] == "low-pass":
            return job
        time.sleep(0.01)
    raise AssertionError(job)


def test_a_map_is_seen_before_it_is_estimated(viewer: Any, finished: Wait, held: Any) -> None:
    started = viewer.open({"path": "blob.mrc"})
    job = under_way(viewer, started)
    assert (job["state"], job["result"], job["done"], job["total"]) == ("running", {}, 1, 4)
    assert job["seconds"] < viewer.job(started)["seconds"] + 1e-9
    before = viewer.describe({"id": job["scene"]})
    assert before["kind"] == "read"
    assert list(before["looks"]) == ["input"]
    assert json.dumps(before)
    said = {"id": job["scene"], "level": before["level"], "dust": before["dust"], "colours": ""}
    head, arrays = unpack(viewer.mesh(said))
    assert head["triangles"] > 500
    _, planes = unpack(viewer.slices({"id": job["scene"], "axis": 0, "index": 20, "layers": "input"}))
    for ask in (viewer.estimate, viewer.save, viewer.resolve):
        with pytest.raises(InputError, match="has not been estimated yet"):
            ask({"id": job["scene"]})
    held.set()
    assert finished(viewer, started)["result"] == {"scene": job["scene"]}
    after = viewer.describe({"id": job["scene"]})
    assert after["kind"] == "map"
    assert {name: after[name] for name in ("shape", "origin", "spacing", "range", "sigma", "dust")} == {
        name: before[name] for name in ("shape", "origin", "spacing", "range", "sigma", "dust")
    }
    # It is the same map, at the same place.
    _, positions = unpack(viewer.mesh(said))
    assert np.array_equal(positions["positions"], arrays["positions"])
    _, same = unpack(viewer.slices({"id": job["scene"], "axis": 0, "index": 20, "layers": "input"}))
    assert np.array_equal(same["input"], planes["input"])


def test_a_map_that_cannot_be_estimated_is_shown_with_the_reason_or_not_at_all(
    shelf_folder: Path, tmp_path: Path, finished: Wait
) -> None:
    flat = read_map(shelf_folder / "blob.mrc")
    write_map(tmp_path / "flat.mrc", flat.with_data(np.ones_like(flat.data)))
    holed = flat.data.copy()
    holed[3, 4, 5] = np.nan
    write_map(tmp_path / "holed.mrc", flat.with_data(holed))
    viewer = Viewer(Shelf.of(tmp_path))
    job = finished(viewer, viewer.open({"path": "flat.mrc"}))
    assert (job["state"], "constant" in job["error"]) == ("failed", True)
    scene = viewer.describe({"id": job["scene"]})
    assert scene["kind"] == "read"
    low, high = scene["looks"]["input"]["low"], scene["looks"]["input"]["high"]
    assert high > low
    assert unpack(viewer.mesh({"id": job["scene"], "level": scene["level"]}))[0]["triangles"] == 0
    job = finished(viewer, viewer.open({"path": "holed.mrc"}))
    assert (job["state"], job["scene"], "not a finite number" in job["error"]) == ("failed", None, True)
    viewer.close()


def test_a_map_that_could_not_be_estimated_is_tried_again_in_its_place(
    shelf_folder: Path, tmp_path: Path, finished: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = read_map(shelf_folder / "blob.mrc")
    noise = 0.05 * np.random.default_rng(2).standard_normal(good.shape).astype(np.float32)
    for name, sign in (("blob", 0), ("blob_half1", 1), ("blob_half2", -1)):
        write_map(tmp_path / f"{name}.mrc", good.with_data(good.data + sign * noise))
    estimate = Inputs.estimate

    def failing(self: Inputs, settings: Any = None, progress: Any = None) -> Any:
        if self.half_maps is not None and not (tmp_path / "mended").exists():
            raise InputError("blob_half2.mrc is no half of this map")
        return estimate(self, settings, progress)

    monkeypatch.setattr(Inputs, "estimate", failing)
    viewer = Viewer(Shelf.of(tmp_path))
    job = finished(viewer, viewer.open({"path": "blob.mrc"}))
    assert (job["state"], "blob_half2.mrc" in job["error"]) == ("failed", True)
    scene = viewer.describe({"id": job["scene"]})
    assert (scene["kind"], scene["at_work"], scene["inputs"]["neighbours"]) == ("read", False, True)
    # Without what lies beside it, or once that is mended.
    again = viewer.estimate({"id": scene["id"], "neighbours": False, "settings": {"lowpass": 14.0}})
    assert finished(viewer, again)["result"] == {"scene": scene["id"]}
    found = viewer.describe({"id": scene["id"]})
    assert (found["kind"], found["settings"]["lowpass"], found["title"]) == ("map", 14.0, "blob.mrc")
    other = finished(viewer, viewer.open({"path": "blob.mrc"}))["scene"]
    write_map(tmp_path / "blob_half2.mrc", good.with_data(good.data - noise))
    (tmp_path / "mended").touch()
    job = finished(viewer, viewer.estimate({"id": other}))
    assert job["state"] == "done", job["error"]
    viewer.close()


def test_closing_a_map_stops_its_estimate(viewer: Any, finished: Wait, held: Any) -> None:
    started = viewer.open({"path": "blob.mrc"})
    job = under_way(viewer, started)
    viewer.close_scene({"id": job["scene"]})
    assert finished(viewer, started)["state"] == "stopped"
    assert viewer.state({})["scenes"] == []


def test_packing_gives_back_what_was_packed() -> None:
    arrays = {
        "a": np.arange(5, dtype=np.uint8),
        "b": np.array([1.5, -2], dtype=np.float32),
        "c": np.zeros(0, np.uint32),
    }
    head, found = unpack(pack({"x": [1, 2], "å": "ü"}, arrays))
    assert head == {"x": [1, 2], "å": "ü"}
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def test_bytes_span_the_range_and_clip() -> None:
    assert to_bytes(np.array([-1, 0, 0.5, 1, 9], dtype=np.float32), 0, 1).tolist() == [0, 0, 128, 255, 255]
    assert to_bytes(np.array([3.0], dtype=np.float32), 3, 3).tolist() == [0]


def test_a_map_is_described_with_its_numbers(opened: dict[str, Any], truth: occupy.Estimate) -> None:
    assert opened["numbers"]["full_scale_value"] == truth.full_scale.value
    assert opened["settings"]["lowpass"] == truth.settings.lowpass
    assert opened["asked"] == {}
    assert set(opened["looks"]) >= {"input", "scale", "confidence"}
    assert opened["origin"] == pytest.approx([5.0, -20.0, 8.0])
    assert json.dumps(opened)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_those_of_the_standard_orientation(
    viewer: Any, opened: dict[str, Any], truth: occupy.Estimate, axis: int
) -> None:
    head, arrays = unpack(
        viewer.slices({"id": opened["id"], "axis": axis, "index": 20, "layers": "input,scale"})
    )
    for name, data in (("input", truth.volume.data), ("scale", truth.scale)):
        plane = truth.volume.with_data(data).standard().take(20, axis=axis)
        expected = to_bytes(plane, *head["ranges"][name])
        assert np.array_equal(arrays[name].reshape(head["rows"], head["columns"]), expected)


def test_values_are_exact_and_their_place_is_the_maps(
    viewer: Any, opened: dict[str, Any], truth: occupy.Estimate
) -> None:
    z, y, x = 11, 22, 30
    said = {"id": opened["id"], "z": z, "y": y, "x": x, "layers": ["input", "scale", "confidence"]}
    found = viewer.values(said)
    place = [o + i * a for o, i, a in zip(opened["origin"], (x, y, z), opened["spacing"], strict=True)]
    # The same place, asked of the map in its own axis order.
    every = truth.volume.position(np.indices(truth.volume.shape).reshape(3, -1).T)
    nearest = np.unravel_index(np.abs(every - place).sum(axis=1).argmin(), truth.volume.shape)
    assert found["input"] == truth.volume.data[nearest]
    assert found["scale"] == truth.scale[nearest]
    assert found["confidence"] == pytest.approx(truth.confidence[nearest])


def test_the_surface_lies_where_the_map_is_and_carries_its_scale(
    viewer: Any, opened: dict[str, Any], truth: occupy.Estimate
) -> None:
    head, arrays = unpack(
        viewer.mesh({"id": opened["id"], "level": 0.4, "colours": "scale,confidence", "dust": 2000})
    )
    xyz = arrays["positions"].reshape(-1, 3) / 65535 * head["extent"] + head["origin"]
    grid = truth.volume
    inside = (grid.data > 0.4) & (truth.confidence > 0.9)
    places = grid.position(np.argwhere(inside))
    assert np.abs(xyz.min(axis=0) - places.min(axis=0)).max() < 5
    assert np.abs(xyz.max(axis=0) - places.max(axis=0)).max() < 5
    centre = (places.min(axis=0) + places.max(axis=0)) / 2
    distance = np.linalg.norm(xyz - grid.position((np.array(grid.shape) - 1) / 2), axis=1)
    assert np.median(distance) == pytest.approx(0.3 * 48 * 2.5, rel=0.1)
    # Half occupancy runs along the columns of the file, which are y.
    low = xyz[:, 1] < centre[1] - 15
    high = xyz[:, 1] > centre[1] + 15
    scale = arrays["colour:scale"] / 255
    assert scale[low].mean() < scale[high].mean() - 0.15
    assert arrays["indices"].max() < head["vertices"]


def test_what_is_painted_is_made_once_for_all_levels(
    viewer: Any, opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from occupy.calibration import Calibration

    made, look_up = [], Calibration.occupancy_of
    monkeypatch.setattr(
        Calibration, "occupancy_of", lambda self, scale: made.append(1) or look_up(self, scale)
    )
    said = {"id": opened["id"], "colours": "occupancy", "quality": "coarse"}
    first, again = (unpack(viewer.mesh({**said, "level": share * opened["level"]})) for share in (1, 1.2))
    assert first[1]["colour:occupancy"].std() > 0
    assert not np.array_equal(first[1]["positions"], again[1]["positions"])
    assert len(made) == 1


def test_a_level_in_the_noise_takes_a_coarser_grid(viewer: Any, opened: dict[str, Any]) -> None:
    head, _ = unpack(viewer.mesh({"id": opened["id"], "level": 0.0, "colours": "", "quality": "thumb"}))
    assert head["step"] > 1
    empty, _ = unpack(viewer.mesh({"id": opened["id"], "level": 1e9, "colours": "scale"}))
    assert empty["triangles"] == 0


@pytest.mark.parametrize(
    "said",
    [
        {"amplify": 3.0},
        {"amplify": 3.0, "exclude_solvent": True},
        {"attenuate": 4.0, "exclude_solvent": True},
        {"sigmoid": 5.0, "pivot": 0.4},
        {"exclude_solvent": True},
        {"amplify": 2.0, "use_confidence": False},
    ],
)
def test_factors_for_the_preview_are_what_modify_does(
    viewer: Any, opened: dict[str, Any], truth: occupy.Estimate, said: dict[str, Any]
) -> None:
    factors = viewer.modification({"id": opened["id"], "settings": said})
    doubtful, certain = np.array(factors["doubtful"]), np.array(factors["certain"])
    # Where voxels have the very scales of the table.
    scale = np.linspace(0, 1, 256, dtype=np.float32)
    data = np.full(256, 0.7, dtype=np.float32)
    for c in (0.0, 0.3, 1.0):
        confidence = np.full(256, c, dtype=np.float32)
        weight = confidence if said.get("use_confidence", True) else None
        common = {"confidence": weight, "exclude_solvent": said.get("exclude_solvent", False)}
        if "amplify" in said:
            expected = modify.amplify(data, scale, said["amplify"], **common)
        elif "attenuate" in said:
            expected = modify.attenuate(data, scale, said["attenuate"], **common)
        elif "sigmoid" in said:
            expected = modify.sigmoid(data, scale, said["sigmoid"], said["pivot"], **common)
        else:
            expected = modify.exclude_solvent(data, confidence)
        assert np.allclose(data * (doubtful + c * (certain - doubtful)), expected, atol=1e-5)


def test_nothing_modified_is_a_factor_of_one_and_two_at_once_are_refused(
    viewer: Any, opened: dict[str, Any]
) -> None:
    factors = viewer.modification({"id": opened["id"], "settings": {}})
    assert set(factors["certain"]) == set(factors["doubtful"]) == {1.0}
    with pytest.raises(InputError, match="one modification"):
        viewer.modification({"id": opened["id"], "settings": {"amplify": 2.0, "sigmoid": 3.0}})


def test_saving_writes_what_the_command_line_writes(
    viewer: Any, opened: dict[str, Any], finished: Wait, tmp_path: Path, shelf_folder: Path
) -> None:
    settings = {"amplify": 3.0, "exclude_solvent": True}
    job = finished(viewer, viewer.save({"id": opened["id"], "settings": settings, "report": True}))
    assert job["state"] == "done", job["error"]
    folder = Path(job["result"]["folder"])
    assert folder == shelf_folder / "occupy_blob"
    from occupy.cli import main

    record = json.loads((folder / "blob_occupy.json").read_text())
    told = record["command"]
    assert told[:2] == ["occupy", "estimate"]
    told[2] = str(shelf_folder / told[2])
    assert main.run([*told[1:], "-o", str(tmp_path), "--quiet"]) == 0
    for name in ("blob_scale.mrc", "blob_confidence.mrc", "blob_amplified.mrc"):
        assert np.array_equal(read_map(folder / name).data, read_map(tmp_path / name).data)
    assert (folder / "blob_report.html").stat().st_size < 5e6
    # And it opens again, from its own files.
    again = finished(viewer, viewer.open({"path": "occupy_blob"}))
    assert again["state"] == "done", again["error"]
    scene = viewer.describe({"id": again["result"]["scene"]})
    assert scene["asked"] == settings
    assert "amplified" in scene["looks"]


@pytest.mark.parametrize("below", [True, False])
def test_the_command_runs_where_the_user_started_and_writes_where_the_viewer_does(
    shelf_folder: Path, finished: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: bool
) -> None:
    root = tmp_path / "project" / "maps" if below else tmp_path / "maps"
    start = tmp_path / "project"
    for folder in (root, start):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(shelf_folder / "blob.mrc", root / "my map.mrc")
    viewer = Viewer(Shelf.of(root, start=start))
    job = finished(viewer, viewer.open({"path": "my map.mrc"}))
    scene = viewer.describe({"id": job["result"]["scene"]})
    assert scene["saves_into"] == str(start / "occupy_my map")
    settings = {"lowpass": 12, "amplify": 3.0}
    finished(viewer, viewer.estimate({"id": scene["id"], "settings": {"lowpass": 12}}))
    told = viewer.resolve({"id": scene["id"], "settings": settings})["command"]
    assert shlex.split(told)[2] == ("maps/my map.mrc" if below else str(root / "my map.mrc"))
    job = finished(viewer, viewer.save({"id": scene["id"], "settings": settings}))
    assert job["result"]["folder"] == scene["saves_into"]
    names = ("my map_scale.mrc", "my map_amplified.mrc")
    written = {name: (start / "occupy_my map" / name).read_bytes() for name in names}
    # What was written may be opened, though it lies outside of the folder being viewed.
    again = finished(viewer, viewer.open({"path": "occupy_my map"}))
    assert again["state"] == "done", again["error"]
    # Its own folder is named where it is not the command line's.
    viewer.shelf = Shelf.of(root, [start / "occupy_my map"], start=tmp_path)
    told_again = viewer.resolve({"id": again["result"]["scene"], "settings": settings})["command"]
    assert told_again.endswith("-o 'project/occupy_my map'")
    viewer.close()
    shutil.rmtree(start / "occupy_my map")
    from occupy.cli import main

    monkeypatch.chdir(start)
    assert main.run([*shlex.split(told)[1:], "--quiet"]) == 0
    for name in names:
        assert np.array_equal(
            np.frombuffer(written[name][1024:], "f4"),
            np.frombuffer((start / "occupy_my map" / name).read_bytes()[1024:], "f4"),
        )


def test_estimating_again_with_other_settings(viewer: Any, opened: dict[str, Any], finished: Wait) -> None:
    job = finished(viewer, viewer.estimate({"id": opened["id"], "settings": {"lowpass": 12}}))
    assert job["state"] == "done", job["error"]
    now = viewer.describe({"id": opened["id"]})
    assert now["settings"]["lowpass"] == 12
    assert now["revision"] > opened["revision"]
    assert any("full scale" in line for line in job["log"])


def test_a_job_that_is_stopped_leaves_things_as_they_were(viewer: Any, finished: Wait) -> None:
    def work(job: Any) -> dict[str, Any]:
        while True:
            job.report("working", 0, 0)

    started = {"job": viewer.jobs.start("endless", work).id}
    viewer.stop(started)
    assert finished(viewer, started)["state"] == "stopped"


def test_what_cannot_be_opened_says_why(viewer: Any, finished: Wait) -> None:
    job = finished(viewer, viewer.open({"path": "broken.mrc"}))
    assert job["state"] == "failed"
    assert "not an MRC" in job["error"]
    assert "\n" not in job["error"]


def test_masks_are_those_of_the_library(
    viewer: Any, opened: dict[str, Any], finished: Wait, truth: occupy.Estimate
) -> None:
    options = {"threshold": 0.4, "weak": 0.2, "extend": 3, "soft_edge": 5}
    job = finished(viewer, viewer.mask({"id": opened["id"], "kind": "solvent", "options": options}))
    assert job["state"] == "done", job["error"]
    document = viewer.scenes.get(opened["id"])
    expected = masks.solvent_definition(truth.scale, voxel_size=truth.volume.voxel_size, **options)
    assert np.array_equal(document.as_volume("solvent_mask").data, expected)
    finished(viewer, viewer.mask({"id": opened["id"], "kind": "subtraction", "options": {"attenuate": 4}}))
    made = document.as_volume("subtraction_mask").data
    assert np.array_equal(made, masks.subtraction_mask(truth.scale, attenuate=4.0))
    bad = finished(viewer, viewer.mask({"id": opened["id"], "kind": "solvent", "options": {"threshold": 3}}))
    assert bad["state"] == "failed"
    assert "threshold" in bad["error"]


def test_downloads_are_maps_with_the_inputs_frame_and_a_whole_archive(
    viewer: Any, opened: dict[str, Any], truth: occupy.Estimate
) -> None:
    for layer, expected in (("scale", truth.scale), ("input", truth.volume.data)):
        got = viewer.download({"id": opened["id"], "layer": layer})
        volume = read_map(got.path)
        assert np.array_equal(volume.data, expected)
        assert volume.frame.axes == truth.volume.frame.axes
    preview = viewer.download({"id": opened["id"], "layer": "preview", "settings": {"amplify": 3}})
    assert np.allclose(read_map(preview.path).data, truth.amplify(3.0).data, atol=1e-6)
    archive = viewer.download({"id": opened["id"], "settings": {"amplify": 3}})
    with zipfile.ZipFile(archive.path) as held:
        assert held.testzip() is None
        names = {Path(name).name for name in held.namelist()}
        script = held.read("occupy_blob/blob.cxc").decode()
    assert {"blob.mrc", "blob_scale.mrc", "blob_amplified.mrc", "blob.cxc"} <= names
    opened_by_script = [line.split('"')[1] for line in script.splitlines() if line.startswith("open ")]
    assert set(opened_by_script) <= names
    report = viewer.download({"id": opened["id"], "report": True})
    assert report.path.read_text(encoding="utf-8").startswith("<!doctype html>")
    # Nobody fetched them: they go with the viewer.
    viewer.close()
    assert not any(made.temporary.exists() for made in (preview, archive, report))


def test_a_model_is_drawn_where_it_is(viewer: Any) -> None:
    head, arrays = unpack(viewer.trace({"path": "model.pdb"}))
    points = arrays["points"].reshape(-1, 3)
    assert head["chains"] == ["A"]
    assert points[0].tolist() == [60.0, 40.0, 68.0]
    assert np.allclose(np.diff(points, axis=0), [3.8, 0, 0], atol=1e-3)
    assert arrays["first"].tolist() == [1, 0, 0, 0, 0, 0]


def test_gaps_and_new_chains_break_the_trace(viewer: Any, shelf_folder: Path) -> None:
    places = [("A", 1, 0.0), ("A", 2, 3.8), ("A", 9, 40.0), ("A", 10, 43.8), ("B", 1, 47.6), ("B", 2, 51.4)]
    lines = [
        f"ATOM  {i + 1:5d}  CA  ALA {chain}{number:4d}    {x:8.3f}   0.000   0.000  1.00 20.00           C"
        for i, (chain, number, x) in enumerate(places)
    ]
    (shelf_folder / "gaps.pdb").write_text("\n".join([*lines, "END"]) + "\n")
    head, arrays = unpack(viewer.trace({"path": "gaps.pdb"}))
    (shelf_folder / "gaps.pdb").unlink()
    assert head["chains"] == ["A", "B"]
    assert arrays["first"].tolist() == [1, 0, 1, 0, 1, 0]


@pytest.fixture
def with_model(demo_folder: Path, finished: Wait) -> Any:
    """Return a viewer of a map with its model, and the map's description."""
    made = Viewer(Shelf.of(demo_folder))
    job = finished(made, made.open({"path": "demo.mrc"}))
    yield made, made.describe({"id": job["result"]["scene"]})
    made.close()


@pytest.mark.parametrize("by_reading", [False, True])
def test_parts_of_a_model_read_what_the_command_line_reads(
    with_model: Any, demo_folder: Path, finished: Wait, tmp_path: Path, by_reading: bool
) -> None:
    viewer, scene = with_model
    said = {"id": scene["id"], "path": "demo_model.cif", "by_reading": by_reading}
    job = finished(viewer, viewer.parts(said))
    assert job["state"] == "done", job["error"]
    found = {part["name"]: part for part in job["result"]["parts"]}
    from occupy.cli import main

    words = ["regions", str(demo_folder / "demo.mrc"), "--model", str(demo_folder / "demo_model.cif")]
    words += ["--by-reading"] if by_reading else []
    assert main.run([*words, "-o", str(tmp_path), "--quiet"]) == 0
    table = read_table(next(tmp_path.glob("*regions.csv")))
    assert list(found) == list(table.regions)
    assert (job["result"]["kind"], job["result"]["fitted"]) == (table.kind, not by_reading)
    for row, name in enumerate(table.regions):
        part = found[name]
        assert part["value"] == pytest.approx(table.values[row, 0], abs=2e-4)
        assert part["error"] == pytest.approx(table.errors[row, 0], abs=2e-4)
        assert [part["low"], part["high"]] == pytest.approx([table.low[row, 0], table.high[row, 0]], abs=2e-4)
    # What the fit leaves over is a layer here, and a map of the model's box there.
    looks = viewer.describe(said)["looks"]
    assert ("residual" in looks, bool(list(tmp_path.glob("*_residual.mrc")))) == (not by_reading,) * 2
    if not by_reading:
        there, document = read_map(next(tmp_path.glob("*_residual.mrc"))), viewer.document(said)
        start = np.rint((there.position((0, 0, 0)) - document.origin) / document.spacing).astype(int)[::-1]
        layer = document.layer("residual")
        box = layer[tuple(slice(a, a + n) for a, n in zip(start, there.shape, strict=True))]
        np.testing.assert_allclose(box, there.data, atol=1e-5)
        assert np.abs(layer).sum() == pytest.approx(np.abs(box).sum(), rel=1e-3)
        assert (
            looks["residual"]["high"] == -looks["residual"]["low"] == pytest.approx(4 * box.std(), rel=1e-3)
        )
    # Each lies in its own density, and every point of the trace belongs to one.
    model = gemmi.read_structure(str(demo_folder / "demo_model.cif"))[0]
    for name, part in found.items():
        atoms = np.array([atom.pos.tolist() for residue in model[name] for atom in residue])
        assert np.linalg.norm(atoms - part["place"], axis=1).min() < 0.01
    _, arrays = unpack(viewer.trace({"path": "demo_model.cif"}))
    assert len(job["result"]["part_of"]) == len(arrays["first"])
    assert set(job["result"]["part_of"]) == set(range(len(found)))


def test_what_a_fit_leaves_over_lies_where_it_is_whatever_the_axes(
    viewer: Any, opened: dict[str, Any]
) -> None:
    document = viewer.document(opened)
    values = np.random.default_rng(1).standard_normal((4, 5, 6)).astype(np.float32)
    lattice = SimpleNamespace(start=(1, 2, 3), shape=values.shape)
    document.keep_residual(SimpleNamespace(fit=SimpleNamespace(lattice=lattice, residual=values)))
    layer = document.layer("residual")
    assert np.array_equal(layer[1:5, 2:7, 3:9], values)
    assert np.count_nonzero(layer) == values.size
    assert document.as_volume("residual").frame.axes == (2, 3, 1)
    document.keep_residual(None)
    assert "residual" not in document.looks


@pytest.mark.parametrize(
    ("name", "message"), [("shifted.cif", "does not fit"), ("far.cif", "outside the box")]
)
def test_a_model_in_a_wrong_frame_is_refused_with_the_reason(
    with_model: Any, finished: Wait, name: str, message: str
) -> None:
    viewer, scene = with_model
    job = finished(viewer, viewer.parts({"id": scene["id"], "path": name}))
    assert job["state"] == "failed"
    assert message in job["error"]
    assert "\n" not in job["error"]
    with pytest.raises(InputError, match="outside of the folder"):
        viewer.parts({"id": scene["id"], "path": "../model.cif"})


@pytest.fixture
def set_scene(viewer: Any, finished: Wait) -> dict[str, Any]:
    job = finished(viewer, viewer.open({"path": "classes"}))
    assert job["state"] == "done", job["error"]
    return viewer.describe({"id": job["result"]["scene"]})


def test_a_set_is_described_with_its_table(set_scene: dict[str, Any]) -> None:
    assert [m["name"] for m in set_scene["maps"]] == ["class_001", "class_002", "class_003"]
    assert set_scene["components"] == ["lobe_a", "lobe_b"]
    found = {
        (region, i): cell["occupancy"]
        for region, row in zip(set_scene["regions"], set_scene["cells"], strict=True)
        for i, cell in enumerate(row)
    }
    truth = occupancies(3)
    assert found == {(r, i): pytest.approx(truth[i][r], abs=1e-4) for r in truth[0] for i in range(3)}


def test_maps_of_a_set_are_called_alike_in_table_titles_and_differences(
    viewer: Any, finished: Wait, shelf_folder: Path
) -> None:
    write_set(shelf_folder / "run", called="run_it025_class{:03d}")
    job = finished(viewer, viewer.open({"path": "run"}))
    assert job["state"] == "done", job["error"]
    scene = viewer.describe({"id": job["result"]["scene"]})
    assert [m["name"] for m in scene["maps"]] == [f"run_it025_class00{n}" for n in (1, 2, 3)]
    assert [m["told"] for m in scene["maps"]] == ["class 1", "class 2", "class 3"]
    titles = {name: look["title"] for name, look in scene["looks"].items()}
    assert (titles["class:0"], titles["occupancy:1"]) == ("class 1", "Occupancy, class 2")
    looks = viewer.scenes.get(scene["id"]).looks
    assert looks["difference:2:0"].title == "Occupancy, class 3 − class 1"


def test_a_class_is_the_composite_times_its_relative_occupancy(
    viewer: Any, set_scene: dict[str, Any]
) -> None:
    scene = viewer.scenes.get(set_scene["id"])
    product = scene.layer("composite") * scene.layer("relative:0")
    assert np.array_equal(scene.layer("class:0"), product)
    difference = scene.layer("difference:2:0")
    assert np.array_equal(difference, scene.layer("occupancy:2") - scene.layer("occupancy:0"))
    head, arrays = unpack(
        viewer.mesh({"id": scene.id, "source": "composite", "level": 0.5, "colours": "difference:2:0"})
    )
    x = arrays["positions"].reshape(-1, 3)[:, 0] / 65535
    shade = arrays["colour:difference:2:0"] / 255 * 2 - 1
    # lobe_a, at high x, is in the last map only; lobe_b in the first only.
    assert shade[x > 0.75].mean() > 0.8
    assert shade[x < 0.25].mean() < -0.8
    assert head["ranges"] == {"difference:2:0": [-1.0, 1.0]}


@pytest.mark.parametrize(
    "layer",
    [
        "occupancy:3",
        "occupancy:-1",
        "occupancy:x",
        "difference:0",
        "difference:0:9",
        "component:../x",
        "nothing",
    ],
)
def test_layers_a_set_does_not_have(viewer: Any, set_scene: dict[str, Any], layer: str) -> None:
    with pytest.raises(InputError):
        viewer.mesh({"id": set_scene["id"], "source": layer, "level": 0.5})
    with pytest.raises(InputError):
        viewer.slices({"id": set_scene["id"], "axis": 0, "index": 1, "layers": layer})


def test_layers_of_a_set_are_kept_up_to_a_number_of_bytes(
    shelf_folder: Path, finished: Wait, viewer: Any
) -> None:
    from occupy.web.shelf import ArrayCache

    write_set(shelf_folder / "many", 30)
    viewer.cache = ArrayCache(0)
    job = finished(viewer, viewer.open({"path": "many"}))
    scene = viewer.scenes.get(job["result"]["scene"])
    one = scene.layer("occupancy:0")
    viewer.cache.limit = 5 * one.nbytes
    for i in range(30):
        assert np.array_equal(scene.layer(f"occupancy:{i}"), scene.layer(f"occupancy:{i}"))
        assert viewer.cache.bytes <= 5 * one.nbytes
    assert scene.layer("occupancy:29") is scene.layer("occupancy:29")
    assert np.array_equal(scene.layer("occupancy:0"), one)
    viewer.close_scene({"id": scene.id})
    assert viewer.cache.bytes == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged record"),
        ("[" * 100_000, "damaged record"),
        ("[]", "not the record of a set"),
        ("{}", "not the record of a set"),
        ('{"what": "set", "maps": []}', "its maps"),
        ('{"what": "set", "maps": [{}]}', "its maps"),
        ('{"what": "set", "maps": [{"name": "a", "outputs": {"scale": "../outside.mrc"}}]}', "its maps"),
        (
            '{"what": "set", "maps": [{"name": "a", "outputs": {}}], "outputs": {"a": "/b.mrc"}}',
            "its outputs",
        ),
    ],
)
def test_sets_that_are_none(viewer: Any, finished: Wait, shelf_folder: Path, text: str, message: str) -> None:
    folder = shelf_folder / "bad_set"
    folder.mkdir(exist_ok=True)
    (folder / "occupy_set.json").write_text(text)
    job = finished(viewer, viewer.open({"path": "bad_set"}))
    assert message in job["error"]


def test_a_set_that_names_files_outside_is_refused(viewer: Any, finished: Wait, shelf_folder: Path) -> None:
    folder = write_set(shelf_folder / "sly_set", 2)
    record = json.loads((folder / "occupy_set.json").read_text())
    record["maps"][0]["outputs"]["occupancy"] = "../../outside.mrc"
    (folder / "occupy_set.json").write_text(json.dumps(record))
    job = finished(viewer, viewer.open({"path": "sly_set"}))
    assert "damaged" in job["error"]
    # Nor by a link that leads out.
    record["maps"][0]["outputs"]["occupancy"] = "sly.mrc"
    (folder / "sly.mrc").symlink_to(shelf_folder.parent / "outside.mrc")
    (folder / "occupy_set.json").write_text(json.dumps(record))
    assert "outside" in finished(viewer, viewer.open({"path": "sly_set"}))["error"]


def test_a_result_with_larger_voxels_is_shown_as_it_is_read(
    viewer: Any, finished: Wait, shelf_folder: Path
) -> None:
    import occupy
    from occupy.cli import main

    seen = {}
    for kind in ("map", "coarse"):
        options = ["--lowpass", "12", "--output-voxel", kind, "-o", str(shelf_folder / kind), "--quiet"]
        assert main.run(["estimate", str(shelf_folder / "blob.mrc"), *options]) == 0
        job = finished(viewer, viewer.open({"path": kind}))
        assert job["state"] == "done", job
        seen[kind] = viewer.scene({"id": job["result"]["scene"]})._array("occupancy")
        (maps,) = occupy.load(shelf_folder / kind).maps.values()
        np.testing.assert_allclose(seen[kind], maps["occupancy"].data, atol=1e-6)
    assert seen["map"].shape == seen["coarse"].shape
    assert 0 < np.abs(seen["map"] - seen["coarse"]).mean() < 0.01


def test_a_result_that_names_a_map_outside_is_refused(
    viewer: Any, finished: Wait, shelf_folder: Path, tmp_path: Path
) -> None:
    write_map(tmp_path / "far.mrc", read_map(shelf_folder / "blob.mrc"))
    from occupy.cli import main

    assert main.run(["estimate", str(tmp_path / "far.mrc"), "-o", str(shelf_folder / "far"), "--quiet"]) == 0
    job = finished(viewer, viewer.open({"path": "far"}))
    assert job["state"] == "failed"
    assert "outside" in job["error"]
    # Named on the command line, its input may be read.
    from occupy.web.serve import _shelf_for

    shelf, what = _shelf_for(shelf_folder / "far")
    viewer.shelf = replace(shelf)
    assert finished(viewer, viewer.open({"path": what}))["state"] == "done"


def test_shell_words_of_the_command_survive_odd_names() -> None:
    from occupy.web.forms import command_line

    words = shlex.split(command_line("a b'c.mrc", occupy.Settings(tile_size="40 A", use_confidence=False)))
    assert words == ["occupy", "estimate", "a b'c.mrc", "--tile-size", "40 A", "--ignore-confidence"]
