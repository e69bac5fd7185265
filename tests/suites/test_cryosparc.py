"""A cryoSPARC classification becomes an External job: real data sets, stand-in with the API's signatures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
import yaml

if os.environ.get("OCCUPY_REQUIRE_CRYOSPARC") != "1":
    pytest.importorskip("cryosparc", reason="needs the extra cryosparc: pip install 'occupy-em[cryosparc]'")

from cryosparc.controllers.job import ExternalJobController, JobController
from cryosparc.dataset import Dataset
from cryosparc.tools import CryoSPARC

from occupy.errors import InputError
from occupy.io.mrc import read_map, write_map
from occupy.suites import cryosparc

PARTICLES = (30, 20, 50)
SLOTS = {
    "map": [("map/path", "O"), ("map/shape", "<u4", (3,)), ("map/psize_A", "<f4")],
    "mask": [("mask/path", "O"), ("mask/shape", "<u4", (3,)), ("mask/psize_A", "<f4")],
}


class Standin:
    """An instance with one project: methods are checked against cryosparc-tools' own signatures."""

    def __init__(self, root: Path, outputs: list[str]) -> None:
        self.saved: dict[str, Dataset] = {}
        self.kinds: dict[str, tuple[str, str | None]] = {}
        self.source = create_autospec(JobController, instance=True, project_uid="P3", uid="J42")
        self.source.dir, self.source.outputs = str(root / "J42"), dict.fromkeys(outputs)
        self.source.model.workspace_uids = ["W1"]
        first = np.cumsum((0, *PARTICLES))
        self.particles = {
            f"particles_class_{k}": Dataset({"uid": np.arange(first[k], first[k + 1], dtype=np.uint64)})
            for k in range(len(PARTICLES))
        }
        self.source.load_output.side_effect = lambda name: self.particles[name]
        self.external = create_autospec(ExternalJobController, instance=True, uid="J50")
        self.external.dir = str(root / "J50")
        self.external.add_output.side_effect = self._add
        self.external.alloc_output.side_effect = self._allocate
        self.external.save_output.side_effect = lambda name, rows: self.saved.__setitem__(name, rows)
        self.external.subprocess.side_effect = lambda words: subprocess.run(words, check=True, timeout=300)
        self.instance = create_autospec(CryoSPARC, instance=True)
        self.instance.find_job.return_value = self.source
        self.instance.create_external_job.return_value = self.external

    def _add(self, kind, name, slots=(), passthrough=None, title=None):
        self.kinds[name] = (kind, passthrough)
        self.slots = slots
        return name

    def _allocate(self, name, size):
        return Dataset.allocate(size, SLOTS[self.slots[0]])


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a project with a job of three simulated classes."""
    root = tmp_path_factory.mktemp("cryosparc")
    command = [sys.executable, "-P", "-m", "occupy", "simulate", "demo", "--classes", "3", "--blocks", "2"]
    subprocess.run([*command, "--no-half-maps", "--quiet", "-o", root / "made"], check=True, timeout=300)
    (root / "J42").mkdir()
    for k, path in enumerate(sorted((root / "made").glob("*class*.mrc"))):
        write_map(root / "J42" / f"J42_class_{k:02d}_00042_volume.mrc", read_map(path))
    return root


@pytest.fixture(scope="module")
def made(job: Path) -> Standin:
    """Return what a run over the job left in the stand-in."""
    root = job
    (root / "J50").mkdir()
    names = [f"{kind}_class_{k}" for kind in ("volume", "particles") for k in range(3)]
    standin = Standin(root, [*names, "particles_all_classes"])
    assert cryosparc._run_external(standin.instance, "P3", "J42", [], 0.7) == "J50"
    return standin


def test_the_external_job_is_connected_to_what_it_was_made_of(made: Standin) -> None:
    made.instance.create_external_job.assert_called_once()
    assert made.instance.create_external_job.call_args.args == ("P3", "W1")
    connected = {(call.args[0], call.args[2]) for call in made.external.connect.call_args_list}
    assert connected == {("volumes", f"volume_class_{k}") for k in range(3)} | {
        ("particles", f"particles_class_{k}") for k in range(3)
    }


def test_maps_and_masks_are_where_the_tables_say(made: Standin) -> None:
    root = Path(made.external.dir).parent
    maps = [name for name, (kind, _) in made.kinds.items() if kind == "volume"]
    masks = [name for name, (kind, _) in made.kinds.items() if kind == "mask"]
    assert maps == [f"occupancy_class_{k}" for k in range(3)]
    assert masks
    for name, slot in [(name, "map") for name in maps] + [(name, "mask") for name in masks]:
        row = made.saved[name].rows()[0]
        volume = read_map(root / row[f"{slot}/path"])
        assert tuple(row[f"{slot}/shape"]) == volume.shape
        assert row[f"{slot}/psize_A"] == pytest.approx(volume.voxel_size[0])


def test_particles_with_and_without_a_part_are_all_of_them(made: Standin) -> None:
    parts = {name.partition("_")[2].partition("_")[2] for name in made.kinds if name.startswith("particles_")}
    assert parts
    for part in parts:
        uids = [
            set(made.saved[name]["uid"]) if (name := f"particles_{word}_{part}") in made.saved else set()
            for word in ("with", "without")
        ]
        assert uids[0] | uids[1] == set(range(sum(PARTICLES)))
        assert not uids[0] & uids[1]
    assert all(passed == "particles" for kind, passed in made.kinds.values() if kind == "particle")


def test_a_job_without_classes_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    standin = Standin(tmp_path, ["volume", "particles"])
    with pytest.raises(InputError, match="P3 J42: no classes"):
        cryosparc._run_external(standin.instance, "P3", "J42", [], 0.7)
    standin.instance.create_external_job.assert_not_called()


def test_an_instance_out_of_reach_is_one_line_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYOSPARC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CRYOSPARC_EMAIL", "somebody@example.org")
    monkeypatch.setenv("CRYOSPARC_PASSWORD", "secret-word")
    with pytest.raises(InputError, match="can't be reached") as caught:
        cryosparc.connect()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def put_particles(folder: Path) -> Dataset:
    """Write a job's own table of particles, its passthrough table in another order, and their group."""
    uid = np.arange(100, dtype=np.uint64) + 2**40
    own = Dataset({"uid": uid, "alignments3D/class": np.repeat([0, 1, 2], PARTICLES).astype(np.uint32)})
    own.add_fields([("blob/path", "str"), ("blob/idx", "u4")])
    own["blob/path"], own["blob/idx"] = ["J12/extract/stack.mrc"] * 100, np.arange(100)
    given = Dataset({"uid": uid[::-1], "ctf/df1_A": np.arange(100, dtype=np.float32)})
    own.save(folder / "J42_00042_particles.cs")
    given.save(folder / "J42_passthrough_particles.cs")
    slots = {"alignments3D": "J42_00042_particles.cs", "blob": "J42_00042_particles.cs"}
    slots["ctf"] = "J42_passthrough_particles.cs"
    results = {
        name: {"metafile": f">{table}", "num_items": 100, "type": f"particle.{name}"}
        for name, table in slots.items()
    }
    group = {"group": {"name": "particles", "type": "particle"}, "results": results, "version": "v4.6.0"}
    (folder / "J42_particles.csg").write_text(yaml.safe_dump(group))
    return own


def read_group(path: Path) -> tuple[dict, dict[str, Dataset]]:
    """Return what a group says, and the rows of each slot's table as cryosparc-tools reads them."""
    said = yaml.safe_load(path.read_text())
    rows = {}
    for name, slot in said["results"].items():
        assert slot["metafile"].startswith(">")
        rows[name] = Dataset.load(path.with_name(slot["metafile"][1:]))
        assert len(rows[name]) == slot["num_items"]
        assert any(field.startswith(f"{name}/") for field in rows[name].fields())
    return said, rows


def test_offline_everything_is_written_as_groups_that_cryosparc_takes_in(job: Path, tmp_path: Path) -> None:
    particles = put_particles(job / "J42")
    groups, notices = cryosparc._run_in_folder(job, "J42", tmp_path, [], 0.7)
    assert not [notice for notice in notices if notice.code == "no-particles"]
    assert {path.name for path in groups} == {path.name for path in tmp_path.glob("*.csg")}
    whole: dict[str, set[int]] = {}
    for path in groups:
        said, rows = read_group(path)
        kind = said["group"]["type"]
        for slot in ("map", "mask"):
            if slot in rows:
                (row,) = rows[slot].rows()
                volume = read_map(path.parent / row[f"{slot}/path"].removeprefix(">"))
                assert tuple(row[f"{slot}/shape"]) == volume.shape
                assert row[f"{slot}/psize_A"] == pytest.approx(volume.voxel_size[0])
                assert (
                    said["results"][slot]["type"]
                    == f"{kind}.blob"
                    == f"{'volume' if slot == 'map' else 'mask'}.blob"
                )
        if kind == "particle":
            # Own and passthrough columns, of the same particles in the same order.
            assert set(rows) == {"alignments3D", "blob", "ctf"}
            assert said["version"] == "v4.6.0"
            uid = rows["blob"]["uid"]
            np.testing.assert_array_equal(uid, rows["ctf"]["uid"])
            np.testing.assert_array_equal(rows["ctf"]["ctf/df1_A"], 99 - (uid - 2**40))
            np.testing.assert_array_equal(rows["blob"]["blob/idx"], uid - 2**40)
            assert set(rows["blob"]["blob/path"]) == {"J12/extract/stack.mrc"}
            part = path.stem.partition("_")[2].partition("_")[2]
            assert not whole.setdefault(part, set()) & set(uid)
            whole[part] |= set(uid)
    assert whole
    assert all(found == set(particles["uid"]) for found in whole.values())


def test_offline_without_particles_there_are_maps_and_masks_and_a_word(job: Path, tmp_path: Path) -> None:
    for path in (*(job / "J42").glob("*.cs"), *(job / "J42").glob("*.csg")):
        path.unlink()
    groups, notices = cryosparc._run_in_folder(job, "J42", tmp_path, [], 0.7)
    assert {path.name.partition("_")[0] for path in groups} == {"occupancy", "mask"}
    assert [notice.code for notice in notices] == ["no-particles"]
    with pytest.raises(InputError, match="no such job"):
        cryosparc._run_in_folder(job, "J43", tmp_path, [], 0.7)
