"""`occupy mask`: masks from a scale map or the folder of an estimate."""

from __future__ import annotations

import re

import mrcfile
import numpy as np
import pytest
from scipy.ndimage import label, maximum

from chimerax_standin import ChimeraX
from occupy.io.mrc import read_map, write_map
from occupy.masks import solvent_definition, usual_content


@pytest.fixture
def done(estimated):
    return estimated()


def headers_agree(one, other):
    fields = ("nx", "ny", "nz", "nxstart", "nystart", "nzstart", "cella", "mapc", "mapr", "maps", "origin")
    with mrcfile.open(one) as first, mrcfile.open(other) as second:
        return all(first.header[f].tolist() == second.header[f].tolist() for f in fields)


def test_subtraction_mask_from_a_folder(cli, done):
    said = cli("mask", "subtraction", done.folder, "--attenuate", 3)
    path = done.path("subtraction_mask")
    assert said.code == 0
    mask = done["subtraction_mask"]
    assert said.out.startswith(f"{path}: keeps {mask.mean():.1%} of the box")
    np.testing.assert_allclose(mask, done["scale"] ** 2, rtol=1e-6, atol=1e-12)
    assert headers_agree(path, done.path("scale"))


def test_subtraction_mask_from_a_map_to_a_file(cli, done, work):
    said = cli(
        "mask", "subtraction", done.path("scale"), "--sigmoid", 4, "--pivot", 0.6, "-o", "s.mrc", "--quiet"
    )
    assert (said.code, said.out, said.err) == (0, "", "")
    mask, scale = read_map(work / "s.mrc").data, done["scale"]
    assert np.all(mask[scale >= 0.6] == 1)
    assert mask[(scale > 0.1) & (scale < 0.5)].max() < 0.9
    assert np.array_equal(mask[scale == 0], np.zeros((scale == 0).sum(), np.float32))


def test_a_soft_edge_smooths_within_the_range(cli, done):
    cli("mask", "subtraction", done.folder, "--attenuate", 3)
    plain = done["subtraction_mask"].copy()
    cli("mask", "subtraction", done.folder, "--attenuate", 3, "--soft-edge", 8)
    soft = done["subtraction_mask"]
    assert 0 <= soft.min() < soft.max() <= 1
    assert np.abs(np.diff(soft, axis=0)).max() < 0.6 * np.abs(np.diff(plain, axis=0)).max()
    assert soft.mean() == pytest.approx(plain.mean(), rel=0.02)


def test_exactly_one_of_attenuation_and_sigmoid(cli, the_error, done):
    for options in ((), ("--attenuate", 3, "--sigmoid", 3)):
        message = the_error(cli("mask", "subtraction", done.folder, *options))
        assert "either an attenuation or a sigmoid power, and not both" in message
    assert not done.path("subtraction_mask").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--attenuate", 0.5),
        ("--sigmoid", 3, "--pivot", 1.5),
        ("--attenuate", 3, "--soft-edge", -1),
        ("--attenuate", "nan"),
    ],
)
def test_subtraction_values_that_make_no_sense(cli, the_error, done, options):
    the_error(cli("mask", "subtraction", done.folder, *options))
    assert not done.path("subtraction_mask").exists()


def test_solvent_definition_keeps_what_is_present_and_touches_something_stronger(cli, done):
    said = cli("mask", "solvent", done.folder, "--close", 0)
    lowest = done.record["numbers"]["lowest_confident_scale"]
    mask, scale = done["solvent_mask"], done["scale"]
    limit = max(0.115, lowest)
    assert (mask[scale > np.float32(0.5)] == 1).all()
    assert (mask[scale <= np.float32(limit)] == 0).all()
    pieces, count = label(mask > 0)
    assert (maximum(scale, pieces, range(1, count + 1)) > 0.5).all()
    weak = (scale > np.float32(limit)) & (scale <= np.float32(0.5))
    assert 0 < mask[weak].mean() <= 1
    share = f"content (1) is {mask.mean():.1%} of the box"
    assert f"{share}, scale above 0.5, weak parts above {limit:.3g}" in said.out


def test_the_usual_solvent_definition_is_that_of_the_library(cli, done):
    assert cli("mask", "solvent", done.folder).code == 0
    scale = read_map(done.path("scale"))
    usual = usual_content(done.record["numbers"]["lowest_confident_scale"])
    expected = solvent_definition(scale.data, voxel_size=scale.voxel_size, **usual)
    assert np.array_equal(done["solvent_mask"], expected)
    assert headers_agree(done.path("solvent_mask"), done.path("scale"))


def test_recalibration_changes_the_axis_and_not_the_mask(cli, estimated):
    plain, moved = estimated("--estimator", "local"), estimated("--recalibrate")
    for got in (plain, moved):
        assert cli("mask", "solvent", got.folder, "--quiet").code == 0
    assert np.mean(plain["solvent_mask"] != moved["solvent_mask"]) < 1e-4
    assert 0.02 < moved["solvent_mask"].mean() < 0.9


def test_a_threshold_for_a_map_alone(cli, the_error, done, work):
    scale = done["scale"]
    assert "give a --threshold" in the_error(cli("mask", "solvent", done.path("scale")))
    assert cli("mask", "solvent", done.path("scale"), "--threshold", 0.4, "-o", "d.mrc").code == 0
    assert np.array_equal(read_map(work / "d.mrc").data > 0, scale > 0.4)


def test_a_soft_and_wider_mask_helps_the_solvent_fit(cli, done, blob, work):
    options = ("--threshold", 0.3, "--extend", 6, "--soft-edge", 8, "--smallest", 500)
    assert cli("mask", "solvent", done.folder, *options, "-o", "d.mrc").code == 0
    mask = read_map(work / "d.mrc").data
    assert set(np.unique(mask)[[0, -1]]) == {0, 1}
    assert ((mask > 0) & (mask < 1)).any()
    assert cli(blob, "--solvent-mask", "d.mrc", "-o", "again", "--quiet").code == 0


def test_options_reach_the_mask(cli, done):
    """Each of them changes it the way it says."""
    volumes = {}
    for name, options in {
        "plain": (),
        "weak": ("--weak", 0.2),
        "smallest": ("--smallest", 1e6),
        "extend": ("--extend", 4),
        "soft": ("--soft-edge", 4),
    }.items():
        said = cli("mask", "solvent", done.folder, "--threshold", 0.45, *options)
        volumes[name] = done["solvent_mask"].sum(dtype=float) if said.code == 0 else said.err
    assert volumes["weak"] > volumes["plain"]
    assert "empty" in volumes["smallest"]
    assert volumes["extend"] > volumes["soft"] > volumes["plain"]


def test_a_map_that_is_no_scale_is_refused(cli, the_error, blob, work):
    for options in (("subtraction", "--attenuate", 3), ("solvent", "--threshold", 0.3)):
        message = the_error(cli("mask", options[0], blob, *options[1:], "-o", "x.mrc"))
        assert "not a scale map (values from" in message
    nan = read_map(blob)
    data = np.full(nan.shape, 0.5, np.float32)
    data[3, 3, 3] = np.nan
    write_map(work / "nan.mrc", nan.with_data(data))
    assert "not a scale map" in the_error(cli("mask", "subtraction", "nan.mrc", "--attenuate", 3))
    assert [p.name for p in work.iterdir()] == ["nan.mrc"]


@pytest.mark.parametrize(
    "options",
    [("--threshold", 1.2), ("--threshold", -0.1), ("--threshold", 0.3, "--weak", 0.4), ("--extend", -1),
     ("--soft-edge", "nan"), ("--smallest", -3)],
)  # fmt: skip
def test_solvent_values_that_make_no_sense(cli, the_error, done, options):
    the_error(cli("mask", "solvent", done.folder, *options))
    assert not done.path("solvent_mask").exists()


def test_places_that_cannot_be_written(cli, the_error, done):
    assert "there is no folder" in the_error(cli("mask", "solvent", done.folder, "-o", "none/x.mrc"))
    assert "in the way" in the_error(cli("mask", "solvent", done.folder, "-o", done.folder))
    assert "no such file" in the_error(cli("mask", "solvent", "none.mrc", "--threshold", 0.3))


@pytest.mark.parametrize("kind", ["solvent", "subtraction"])
def test_a_script_shows_the_mask_over_the_map_and_its_files_are_there(cli, done, work, kind):
    options = ("--attenuate", 3) if kind == "subtraction" else ()
    assert cli("mask", kind, done.folder, *options, "-o", "keep.mrc").code == 0
    script = (work / "keep_mask.cxc").read_text()
    opened = re.findall('^open "(.*)"$', script, re.M)
    assert len(opened) == 3
    assert all((work / name).is_file() for name in opened)
    session = ChimeraX(set(opened)).run(script)
    assert session.models[1].name == "mask"
    own = done.folder / f"{done.path('scale').stem.removesuffix('_scale')}.cxc"
    before = own.read_bytes()
    assert cli("mask", kind, done.folder, *options, "-o", own.with_suffix(".mrc")).code == 0
    assert own.read_bytes() == before
