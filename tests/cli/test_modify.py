"""`occupy modify`: new modifications from an earlier result."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from chimerax_standin import ChimeraX
from occupy.io.mrc import read_map, write_map


@pytest.fixture
def earlier(cli, blob, work, result):
    """Return a plain result and a copy of the map it was made of."""
    (work / "m.mrc").write_bytes(blob.read_bytes())
    assert cli("m.mrc", "-o", "done", "--quiet").code == 0
    return result(work / "done", "m")


OPTIONS = ("--amplify", 3, "--attenuate", 2.5, "--sigmoid", 4, "--pivot", 0.3, "--seed", 5)


@pytest.mark.parametrize(
    "more",
    [(), ("--exclude-solvent",), ("--ignore-confidence",), ("--lowpass-output", 10), ("--match-histogram",)],
)
def test_the_same_maps_as_estimating_with_these_options(cli, earlier, work, result, more, body):
    said = cli("modify", "done", *OPTIONS, *more)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        f"{earlier.folder.name}/m_{name}"
        for name in ("amplified.mrc", "attenuated.mrc", "sigmoid.mrc", "modified.cxc", "modified.json")
    ]
    assert cli("m.mrc", "-o", "whole", "--quiet", *OPTIONS, *more).code == 0
    whole = result(work / "whole", "m")
    for product in ("amplified", "attenuated", "sigmoid"):
        assert body(earlier.path(product)) == body(whole.path(product)), product


def test_the_script_shows_what_this_and_earlier_calls_made(cli, earlier, work):
    assert cli("modify", "done", "--amplify", 3, "--quiet").code == 0
    assert cli("modify", "done", "--sigmoid", 3, "--quiet").code == 0
    script = (earlier.folder / "m_modified.cxc").read_text()
    opened = re.findall('^open "(.*)"$', script, re.M)
    assert opened[1:] == ["m_scale.mrc", "m_amplified.mrc", "m_sigmoid.mrc"]
    assert all((earlier.folder / name).is_file() for name in opened)
    session = ChimeraX(set(opened)).run(script)
    assert session.models[4].shown
    level = re.search(r"surface level (\S+)", (earlier.folder / "m.cxc").read_text())
    assert f"surface level {level[1]}" in script


def test_solvent_exclusion_alone_and_another_folder(cli, earlier, work):
    before = earlier.names
    assert (
        cli("modify", earlier.folder / "m_occupy.json", "--exclude-solvent", "-o", "new", "--quiet").code == 0
    )
    assert earlier.names == before
    made = read_map(work / "new" / "m_solvent_excluded.mrc").data
    np.testing.assert_allclose(
        made, read_map(work / "m.mrc").data * earlier["confidence"], rtol=1e-6, atol=1e-7
    )


def test_the_record_says_what_was_done(cli, earlier, work):
    old = earlier.record
    cli("modify", "done", "--amplify", 7, "--scale-limit", 0.2)
    new = json.loads((work / "done" / "m_modified.json").read_text(encoding="utf-8"))
    assert new["modified_from"] == old["created"]
    assert new["outputs"] == {"amplified": "m_amplified.mrc", "chimerax": "m_modified.cxc"}
    assert new["settings"] == old["settings"] | {"amplify": 7.0, "scale_limit": 0.2}
    assert new["settings_asked"]["amplify"] == 7
    assert new["command"] == ["occupy", "modify", "done", "--amplify", "7", "--scale-limit", "0.2"]
    assert new["inputs"] == old["inputs"]
    # The earlier record still stands, and can be modified again.
    assert earlier.record == old
    assert cli("modify", "done", "--amplify", 2, "--quiet").code == 0


def test_a_coarser_grid_is_no_obstacle(cli, earlier, work, result):
    assert cli("m.mrc", "-o", "coarse", "--quiet", "--max-box", 32).code == 0
    assert cli("modify", "coarse", "--amplify", 3, "--quiet").code == 0
    assert cli("m.mrc", "-o", "whole", "--quiet", "--max-box", 32, "--amplify", 3).code == 0
    one, other = (read_map(work / name / "m_amplified.mrc").data for name in ("coarse", "whole"))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_the_voxel_size_given_then_holds_now(cli, earlier, work, result, body):
    raw = bytearray((work / "m.mrc").read_bytes())
    raw[40:52] = bytes(12)
    (work / "m.mrc").write_bytes(raw)
    options = ("--amplify", 3, "--lowpass-output", 9)
    assert cli("m.mrc", "-o", "one", "--quiet", "--voxel-size", 1.37).code == 0
    assert cli("m.mrc", "-o", "two", "--quiet", "--voxel-size", 1.37, *options).code == 0
    assert cli("modify", "one", "--quiet", *options).code == 0
    assert body(work / "one" / "m_amplified.mrc") == body(work / "two" / "m_amplified.mrc")


def test_voxel_sizes_with_many_digits_keep_the_frame(cli, earlier, work):
    raw = bytearray((work / "m.mrc").read_bytes())
    raw[40:52] = np.full(3, 42.41973, dtype="<f4").tobytes()
    (work / "m.mrc").write_bytes(raw)
    assert cli("m.mrc", "-o", "one", "--quiet").code == 0
    assert cli("modify", "one", "--quiet", "--amplify", 3).code == 0
    assert (work / "one" / "m_amplified.mrc").read_bytes()[40:52] == raw[40:52]


def test_nothing_to_do(cli, the_error, earlier):
    message = the_error(cli("modify", "done", "-o", "new"))
    assert message == "nothing to do: give --amplify, --attenuate, --sigmoid or --exclude-solvent"
    assert not earlier.folder.with_name("new").exists()


def test_a_changed_map_is_refused(cli, the_error, earlier, work):
    volume = read_map(work / "m.mrc")
    write_map(work / "m.mrc", volume.with_data(volume.data * 2))
    before = earlier.names
    assert "checksum differs" in the_error(cli("modify", "done", "--amplify", 3))
    assert earlier.names == before


def test_a_map_that_has_gone_elsewhere(cli, the_error, earlier, work, blob):
    (work / "m.mrc").rename(work / "moved.mrc")
    assert "say where it is with --map" in the_error(cli("modify", "done", "--amplify", 3))
    assert cli("modify", "done", "--amplify", 3, "--map", "moved.mrc", "--quiet").code == 0
    # The checksum decides, not the name.
    assert earlier["amplified"].shape == read_map(blob).shape
    assert "--map" in the_error(cli("modify", "done", "--amplify", 3, "--map", "none.mrc"))


def test_a_lost_scale_map(cli, the_error, earlier):
    earlier.path("scale").unlink()
    assert "m_scale.mrc: no such file" in the_error(cli("modify", "done", "--amplify", 3))


def test_what_is_no_result(cli, the_error, earlier, work):
    assert "no such folder" in the_error(cli("modify", "none", "--amplify", 3))
    (work / "empty").mkdir()
    assert "no *_occupy.json there" in the_error(cli("modify", "empty", "--amplify", 3))
    (work / "done" / "second_occupy.json").write_text("{}")
    assert "2 *_occupy.json there" in the_error(cli("modify", "done", "--amplify", 3))
    assert "not a record of this program" in the_error(
        cli("modify", "done/second_occupy.json", "--amplify", 3)
    )
    assert cli("modify", "done/m_occupy.json", "--amplify", 3, "--quiet").code == 0
    assert "names no scale map" in the_error(cli("modify", "done/m_modified.json", "--amplify", 3))


def test_a_full_disk_leaves_no_half_written_map(cli, the_error, earlier, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("occupy.io.mrc._MapWriter.write_planes", full)
    before = earlier.names
    assert "no space left" in the_error(cli("modify", "done", "--amplify", 3))
    assert earlier.names == before


def test_a_record_without_a_setting_is_refused_in_one_line(estimated, cli, the_error):
    done = estimated()
    path = done.folder / "blob_occupy.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["settings"]["exclude_solvent"]
    path.write_text(json.dumps(record), encoding="utf-8")
    assert "settings are incomplete" in the_error(cli("modify", done.folder, "--amplify", 3))
