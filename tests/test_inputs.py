"""One opening of inputs: command line, viewer and Python read the same and give the same bytes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import occupy
from occupy.cli import main
from occupy.inputs import InputFiles
from occupy.io.mrc import read_map, write_map
from occupy.volume import Frame, Volume

SIDE, VOXEL = 48, 2.5
FRAME = Frame(axes=(2, 3, 1), cell=(SIDE * VOXEL,) * 3, sampling=(SIDE,) * 3, origin=(5.0, -20.0, 8.0))
MASKED_AT = 0.4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a masked map and its half-maps, whose noise the solvent does not tell."""
    rng = np.random.default_rng(1)
    s, r, c = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    texture = rng.standard_normal((SIDE,) * 3)
    for axis in range(3):
        texture = texture + np.roll(texture, 1, axis)
    inside = s**2 + r**2 + c**2 < (0.3 * SIDE) ** 2
    content = np.where(inside, np.where(c < 0, 0.5, 1.0), 0.0) * (1 + 0.3 * texture / texture.std())
    halves = [content + 0.3 * rng.standard_normal((SIDE,) * 3) for _ in range(2)]
    mean = (halves[0] + halves[1]) / 2
    masked = np.where(s**2 + r**2 + c**2 < (MASKED_AT * SIDE) ** 2, mean, 0)
    for name, data in (("m", masked), ("m_half1", halves[0]), ("m_half2", halves[1])):
        write_map(tmp_path / f"{name}.mrc", Volume(data.astype(np.float32), (VOXEL,) * 3, FRAME, name))
    return tmp_path


def command(*words: Any) -> None:
    assert main.run(["estimate", *map(str, words), "--quiet"]) == 0


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "m_occupy.json").read_text())
    return found


def viewed(viewer: Any, name: str, said: dict[str, Any], **asked: Any) -> dict[str, Any]:
    """Do something in the viewer and wait for it."""
    job = getattr(viewer, name)({**said, **asked})
    while (now := viewer.job(job))["state"] in ("waiting", "running"):
        time.sleep(0.01)
    assert now["state"] == "done", now["error"]
    return dict(now["result"])


@pytest.fixture
def viewer(folder: Path) -> Any:
    pytest.importorskip("starlette")
    from occupy.web.shelf import Shelf
    from occupy.web.viewer import Viewer

    made = Viewer(Shelf.of(folder))
    yield made
    made.close()


@pytest.mark.parametrize("neighbours", [True, False])
def test_viewer_command_line_and_python_give_the_same_bytes(
    folder: Path, viewer: Any, neighbours: bool
) -> None:
    command(folder / "m.mrc", "-o", folder / "cli", *([] if neighbours else ["--no-neighbours"]))
    scene = viewed(viewer, "open", {"path": "m.mrc", "neighbours": neighbours})["scene"]
    viewed(viewer, "save", {"id": scene, "settings": {}})
    inputs = occupy.open_inputs(folder / "m.mrc", neighbours=neighbours)
    result = occupy.estimate(inputs)
    truth = (folder / "cli" / "m_scale.mrc").read_bytes()
    occupy.write_map(folder / "python.mrc", inputs.volume.with_data(result.scale), "local scale")
    assert (folder / "occupy_m" / "m_scale.mrc").read_bytes() == truth
    assert (folder / "python.mrc").read_bytes() == truth
    told, saved = record(folder / "cli"), record(folder / "occupy_m")
    shown = viewer.describe({"id": scene})["numbers"]
    fulls = {result.full_scale.value, *(r["numbers"]["full_scale_value"] for r in (told, saved))}
    assert fulls == {shown["full_scale_value"]}
    for part in ("inputs", "settings_asked", "settings", "numbers", "notices", "outputs"):
        assert saved[part] == told[part], part
    assert ("half_map_1" in told["inputs"]) == neighbours
    assert saved["numbers"]["calibration"]["noise_floor_from"] == ("half-maps" if neighbours else "solvent")
    # And what the viewer says does the same in a shell does the same.
    words = saved["command"]
    command(folder / words[2], *words[3:], "-o", folder / "again")
    assert (folder / "again" / "m_scale.mrc").read_bytes() == truth


def test_a_job_of_relion_and_a_set_of_one_give_the_same_bytes(
    folder: Path,
) -> None:
    command(folder / "m.mrc", "-o", folder / "cli")
    job = ["--o", "External/job001/", "--in_3dref", "m.mrc"]
    subprocess.run([sys.executable, "-P", "-m", "occupy.relion.job", *job], cwd=folder, check=True)
    of_one = occupy.estimate_classes([folder / "m.mrc"])
    of_one.save(folder / "one")
    for name in ("scale", "occupancy", "uncertainty", "confidence"):
        truth = (folder / f"cli/m_{name}.mrc").read_bytes()
        assert (folder / f"External/job001/m_{name}.mrc").read_bytes() == truth, name
        assert (folder / f"one/m_{name}.mrc").read_bytes() == truth, name
    told = record(folder / "cli")["numbers"]
    assert record(folder / "External/job001")["numbers"] == told
    assert of_one.full_scale.value == told["full_scale_value"]


def test_half_maps_beside_a_map_change_the_numbers_and_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_halves = occupy.estimate(folder / "m.mrc")
    without = occupy.estimate(read_map(folder / "m.mrc"))
    assert with_halves.full_scale.value != without.full_scale.value
    said = [notice.text for notice in with_halves.notices if notice.code == "neighbours"]
    names = "m_half1.mrc and m_half2.mrc"
    assert said == [f"m.mrc: the half-maps beside it are used, {names} (--no-neighbours leaves them out)"]
    assert "neighbours" not in {notice.code for notice in without.notices}
    assert main.run(["estimate", str(folder / "m.mrc"), "-o", str(folder / "o")]) == 0
    printed = capsys.readouterr()
    assert said[0] in printed.out
    assert "half-maps" not in printed.err
    assert said[0] in {notice["text"] for notice in record(folder / "o")["notices"]}


def test_named_half_maps_are_no_neighbours(folder: Path) -> None:
    inputs = occupy.open_inputs(folder / "m.mrc", half_maps=(folder / "m_half1.mrc", folder / "m_half2.mrc"))
    assert (inputs.found, inputs.volume.notices) == ((), ())
    found = occupy.open_inputs(folder / "m.mrc")
    assert found.found == ("half_map_1", "half_map_2")
    assert occupy.estimate(inputs).full_scale.value == occupy.estimate(found).full_scale.value


def test_half_maps_on_another_grid_are_left_and_that_is_said(folder: Path) -> None:
    for n in (1, 2):
        data = read_map(folder / f"m_half{n}.mrc").data[:, :, 1:]
        write_map(folder / f"m_half{n}.mrc", Volume.from_array(data, VOXEL))
    inputs = occupy.open_inputs(folder / "m.mrc")
    assert inputs.half_maps is None
    assert inputs.found == ()
    assert "not on its grid" in inputs.volume.notices[-1].text


@pytest.mark.parametrize("size", [100, 1500])
def test_a_damaged_half_map_beside_a_map_can_be_left_out(folder: Path, size: int) -> None:
    path = folder / "m_half2.mrc"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(occupy.InputError, match=r"m_half2.mrc: .*truncated.* --no-neighbours leaves it out"):
        occupy.open_inputs(folder / "m.mrc")
    assert occupy.open_inputs(folder / "m.mrc", neighbours=False).found == ()


def test_an_earlier_estimate_has_no_neighbours_to_refuse(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(folder / "m.mrc", "-o", folder / "res")
    words = ["regions", str(folder / "res"), "--masks", str(folder / "m.mrc"), "--no-neighbours"]
    assert main.run(words) == 1
    assert "is an earlier estimate" in capsys.readouterr().err


def test_estimators_without_use_for_half_maps_leave_them(folder: Path) -> None:
    settings = occupy.Settings(estimator="local")
    files = InputFiles(folder / "m.mrc")
    assert list(files.by_role(settings)) == ["map"]
    assert list(replace(files, neighbours=False).by_role(occupy.Settings())) == ["map"]
    assert len(files.by_role(occupy.Settings())) == 3


def test_a_mask_in_memory_and_a_map_in_a_file_are_refused(folder: Path) -> None:
    with pytest.raises(occupy.InputError, match="open_inputs"):
        occupy.estimate(folder / "m.mrc", target_mask=read_map(folder / "m.mrc"))


def test_the_viewer_keeps_what_a_result_was_made_of(folder: Path, viewer: Any) -> None:
    """Half-maps elsewhere, masks and voxel size, through opening, estimating again and saving."""
    (folder / "far").mkdir()
    halves = [(folder / f"m_half{n}.mrc").rename(folder / "far" / f"h{n}.mrc") for n in (1, 2)]
    inside = read_map(folder / "m.mrc").data != 0
    for name in ("solvent", "target"):
        mask = read_map(folder / "m.mrc").with_data(inside.astype(np.float32))
        write_map(folder / f"{name}.mrc", mask)
    words = ["--half-maps", *halves, "--solvent-mask", folder / "solvent.mrc", "--target-mask"]
    words += [folder / "target.mrc", "--voxel-size", "2.4123456789"]
    command(folder / "m.mrc", "-o", folder / "res", *words)
    first = record(folder / "res")
    scene = viewed(viewer, "open", {"path": "res"})["scene"]
    viewed(viewer, "save", {"id": scene, "settings": {"amplify": 3.0}})
    saved = record(folder / "res")
    assert saved["inputs"] == first["inputs"]
    assert len(saved["inputs"]) == 5
    assert saved["numbers"] == first["numbers"]
    assert saved["options"]["voxel_size"] == 2.4123456789
    viewed(viewer, "estimate", {"id": scene, "settings": {"lowpass": 12.0}})
    viewed(viewer, "save", {"id": scene, "settings": {}})
    again = record(folder / "res")
    assert again["inputs"] == first["inputs"]
    told = again["command"]
    assert told == shlex.split(shlex.join(told))
    absolute = [str(folder / w) if w.endswith(".mrc") else w for w in told[2:]]
    command(*absolute, "-o", folder / "shell")
    for part in ("inputs", "settings", "numbers"):
        assert record(folder / "shell")[part] == again[part]
    scale = "m_scale.mrc"
    assert (folder / "shell" / scale).read_bytes() == (folder / "res" / scale).read_bytes()


def test_the_viewer_leaves_neighbours_out_and_takes_them_again(folder: Path, viewer: Any) -> None:
    scene = viewed(viewer, "open", {"path": "m.mrc"})["scene"]
    first = viewer.describe({"id": scene})
    names = {"half_map_1": "m_half1.mrc", "half_map_2": "m_half2.mrc"}
    assert first["inputs"] == {"files": names, "neighbours": True, "beside": True}
    asked = {"id": scene, "settings": {}, "neighbours": False}
    assert viewer.resolve(asked)["command"] == "occupy estimate m.mrc --no-neighbours"
    viewed(viewer, "estimate", asked)
    without = viewer.describe({"id": scene})
    assert without["inputs"] == {"files": {}, "neighbours": False, "beside": True}
    assert without["numbers"]["calibration"]["noise_floor_from"] == "solvent"
    # What was chosen holds for the next estimate, too.
    viewed(viewer, "estimate", {"id": scene, "settings": {"estimator": "local"}})
    viewed(viewer, "estimate", {"id": scene, "settings": {}})
    assert viewer.describe({"id": scene})["numbers"] == without["numbers"]
    viewed(viewer, "estimate", {"id": scene, "settings": {}, "neighbours": True})
    assert viewer.describe({"id": scene})["numbers"] == first["numbers"]


def test_the_viewer_opens_no_result_of_another_map(folder: Path, viewer: Any) -> None:
    command(folder / "m.mrc", "-o", folder / "res")
    volume = read_map(folder / "m.mrc")
    write_map(folder / "m.mrc", volume.with_data(volume.data[::-1].copy()))
    job = viewer.open({"path": "res"})
    while (now := viewer.job(job))["state"] in ("waiting", "running"):
        time.sleep(0.01)
    assert "m.mrc is not what res was made of" in now["error"]


def test_a_map_among_its_own_results_is_watched_all_the_same(folder: Path, viewer: Any) -> None:
    command(folder / "m.mrc", "-o", folder)
    scene = viewed(viewer, "open", {"path": "."})["scene"]
    viewed(viewer, "save", {"id": scene, "settings": {"amplify": 3.0}})
    assert viewer.describe({"id": scene})["asked"] == {"amplify": 3.0}
    volume = read_map(folder / "m.mrc")
    write_map(folder / "m.mrc", volume.with_data(volume.data[::-1].copy()))
    with pytest.raises(occupy.InputError, match=r"m.mrc was changed"):
        viewer.describe({"id": scene})


def test_one_layer_is_not_saved_over_a_map_of_a_record(folder: Path, viewer: Any) -> None:
    scene = viewed(viewer, "open", {"path": "m.mrc"})["scene"]
    viewed(viewer, "save", {"id": scene, "settings": {}})
    before = (folder / "occupy_m" / "m_scale.mrc").read_bytes()
    viewed(viewer, "estimate", {"id": scene, "settings": {"lowpass": 12.0}})
    file = viewed(viewer, "save", {"id": scene, "layer": "scale"})["file"]
    assert Path(file).name == "m_scale_view.mrc"
    assert (folder / "occupy_m" / "m_scale.mrc").read_bytes() == before


def test_a_result_that_is_open_shows_what_was_saved_into_it(folder: Path, viewer: Any) -> None:
    command(folder / "m.mrc", "-o", folder / "res", "--amplify", 3)
    scene = viewed(viewer, "open", {"path": "res"})["scene"]
    place = {"id": scene, "z": 24, "y": 24, "x": 24, "layers": ["amplified"]}
    before = viewer.values(place)["amplified"]
    viewed(viewer, "save", {"id": scene, "settings": {"amplify": 30.0}})
    after = viewer.values(place)["amplified"]
    assert after != before
    assert after == float(read_map(folder / "res" / "m_amplified.mrc").standard()[24, 24, 24])
