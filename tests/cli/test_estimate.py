"""`occupy estimate`: what it writes, and what each option changes."""

from __future__ import annotations

import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest

import occupy
from occupy.io.mrc import map_stem, read_map, write_map


def opened(got):
    """Return the files that ChimeraX will open: it takes names as seen from the script's folder."""
    lines = [line for line in got.script.splitlines() if line.startswith("open ")]
    return [Path(os.path.normpath(got.folder / line[6:-1])) for line in lines]


MAPS = ("scale", "confidence", "amplified", "attenuated", "sigmoid")
ALL = ("--amplify", 3, "--attenuate", 3, "--sigmoid", 4, "--pivot", 0.4)


def test_a_map_alone_means_estimate(cli, blob, work, result, body):
    short, long = cli(blob), cli("estimate", blob, "-o", "long")
    assert (short.code, short.err) == (0, "")
    assert long.out == short.out.replace("occupy_blob/", "long/")
    one, other = result(work / "occupy_blob"), result(work / "long")
    assert one.names == other.names == {
        "blob_scale.mrc", "blob_confidence.mrc", "blob_occupancy.mrc", "blob_uncertainty.mrc",
        "blob_occupy.json", "blob.cxc",
        "blob_occupy.log",
    }  # fmt: skip
    for name in ("blob_scale.mrc", "blob_confidence.mrc"):
        assert body(one.folder / name) == body(other.folder / name)
    assert {p.name for p in work.iterdir()} == {"occupy_blob", "long"}


def test_the_summary_says_what_was_found_and_where_it_is(cli, blob, work, result):
    said = cli(blob)
    numbers = result(work / "occupy_blob").record["numbers"]
    assert said.out.splitlines()[0] == "blob.mrc"
    assert f"lowest confident scale  {numbers['lowest_confident_scale']:.4g}" in said.out
    assert f"full scale              {numbers['full_scale_value']:.4g} map units" in said.out
    assert "chimerax occupy_blob/blob.cxc" in said.out


def test_the_half_occupied_half_reads_about_half(estimated, half_mask):
    """The estimate as a whole, from file to file: a known truth."""
    scale, half = estimated()["scale"], read_map(half_mask).data > 0.5
    assert np.median(scale[half]) == pytest.approx(0.5, abs=0.1)
    assert np.median(scale[half[:, :, ::-1]]) > 0.85


def test_everything_in_one_run(estimated, blob):
    got = estimated(*ALL, "--save-intermediate", "--plot")
    outputs = got.record["outputs"]
    assert set(outputs) == {
        *MAPS, "occupancy", "uncertainty", "lowpass", "colouring", "chimerax", "log",
        "slices_picture", "solvent_picture", "modification_picture",
    }  # fmt: skip
    # The record names every file there is, and is there itself.
    assert got.names == {*outputs.values(), "blob_occupy.json"}
    for product in (*MAPS, "lowpass"):
        assert outputs[product] == f"blob_{product}.mrc"
    for name in outputs.values():
        if name.endswith(".png"):
            assert (got.folder / name).read_bytes().startswith(b"\x89PNG")
    maps = [got.path(product) for product in (*MAPS, "occupancy")]
    assert opened(got) == [blob, *maps, got.folder / "blob_colouring.map"]
    assert got["lowpass"].std() < read_map(blob).data.std()
    assert got["scale"].min() >= 0
    assert got["scale"].max() == 1
    assert 0 <= got["confidence"].min() < 0.01 < 0.99 < got["confidence"].max() <= 1
    log = (got.folder / "blob_occupy.log").read_text(encoding="utf-8")
    assert str(blob) in log
    assert all(name in log for name in outputs.values())


def test_outputs_lie_where_the_input_lies(estimated, blob):
    got = estimated(*ALL, "--save-intermediate")
    fields = (
        "nx", "ny", "nz", "nxstart", "nystart", "nzstart", "mx", "my", "mz", "cella", "cellb",
        "mapc", "mapr", "maps", "origin", "ispg",
    )  # fmt: skip
    with mrcfile.open(blob) as source:
        assert tuple(int(source.header[k]) for k in ("mapc", "mapr", "maps")) == (2, 3, 1)
        wanted = {field: source.header[field].tolist() for field in fields}
    for product in (*MAPS, "lowpass"):
        with mrcfile.open(got.path(product)) as written:
            assert {field: written.header[field].tolist() for field in fields} == wanted, product
            assert written.header["label"][0].startswith(b"made for a test")
        assert mrcfile.validate(got.path(product), print_file=None)


def test_modifications_do_not_depend_on_each_other(estimated):
    together = estimated(*ALL)
    for product, options in (
        ("amplified", ALL[:2]), ("attenuated", ALL[2:4]), ("sigmoid", ALL[4:]),
    ):  # fmt: skip
        alone = estimated(*options)
        assert alone.names == {
            "blob_scale.mrc", "blob_confidence.mrc", "blob_occupancy.mrc", "blob_uncertainty.mrc",
            f"blob_{product}.mrc",
            "blob_occupy.json", "blob.cxc", "blob_occupy.log",
        }  # fmt: skip
        assert np.array_equal(alone[product], together[product])


def test_amplified_and_attenuated_are_what_the_method_says(estimated, blob):
    got = estimated("--amplify", 3, "--attenuate", 3, "--exclude-solvent")
    data, scale, confidence = read_map(blob).data, got["scale"], got["confidence"]
    low, high = data.min(), data.max()
    factor = np.where(scale < 0.05, 1, np.maximum(scale, 1e-9) ** (1 / 3 - 1))
    np.testing.assert_allclose(
        got["amplified"], np.clip(data * factor * confidence, low, high), rtol=2e-5, atol=1e-6
    )
    factor = np.where(scale < 0.05, 1, scale**2)
    np.testing.assert_allclose(
        got["attenuated"], np.clip(data * factor * confidence, low, high), rtol=2e-5, atol=1e-6
    )


def test_solvent_exclusion_works_alone(estimated, blob):
    got = estimated("--exclude-solvent")
    assert got.record["outputs"].keys() == {
        "scale", "confidence", "occupancy", "uncertainty", "solvent_excluded", "chimerax", "log",
    }  # fmt: skip
    np.testing.assert_allclose(
        got["solvent_excluded"], read_map(blob).data * got["confidence"], rtol=1e-6, atol=1e-7
    )


def test_without_confidence_everything_is_modified(estimated, blob):
    got = estimated("--amplify", 3, "--ignore-confidence")
    data, scale = read_map(blob).data, got["scale"]
    inside = (scale > 0.1) & (got["confidence"] < 0.01)
    assert inside.any()
    expected = np.clip(data[inside] * scale[inside] ** (1 / 3 - 1), data.min(), data.max())
    np.testing.assert_allclose(got["amplified"][inside], expected, rtol=2e-5)


def test_histogram_matching_permutes_the_inputs_values(estimated, blob):
    got = estimated("--amplify", 3, "--match-histogram")
    data = read_map(blob).data
    assert np.array_equal(np.sort(got["amplified"], axis=None), np.sort(data, axis=None))
    assert not np.array_equal(got["amplified"], data)


def test_lowpass_of_the_output(estimated, blob):
    got = estimated("--amplify", 2, "--exclude-solvent", "--lowpass-output", 12)
    plain = estimated("--amplify", 2, "--exclude-solvent")["amplified"]
    data = read_map(blob).data
    assert data.min() <= got["amplified"].min()
    n, voxel = data.shape[0], 2.0
    index = np.fft.fftfreq(n) * n
    radius = np.sqrt(index[:, None, None] ** 2 + index[:, None] ** 2 + index**2)
    beyond, within = radius > n * voxel / 12 + 1, radius < n * voxel / 12 - 1

    def power(array, where):
        return (np.abs(np.fft.fftn(array)) ** 2)[where].sum()

    assert power(got["amplified"], beyond) < 1e-9 * power(plain, beyond)
    assert power(got["amplified"], within) == pytest.approx(power(plain, within), rel=1e-3)


def test_a_coarser_grid_gives_maps_at_native_shape(estimated, blob):
    got, plain = estimated("--max-box", 32, "--amplify", 3, "--lowpass", 10), estimated("--lowpass", 10)
    assert got.record["settings"]["shape"] == [32, 32, 32]
    assert got.record["settings"]["voxel_size"] == pytest.approx([2.5] * 3)
    for product in ("scale", "confidence", "amplified"):
        assert got[product].shape == read_map(blob).shape
    sure = plain["confidence"] > 0.9
    assert np.abs(got["scale"] - plain["scale"])[sure].mean() < 0.06


@pytest.fixture
def large_and_small(cli, blob, work):
    """Return results of the same estimate with the map's voxels and with those of the low-pass."""
    for kind in ("map", "coarse"):
        options = ("--lowpass", 12, "--amplify", 3, "--output-voxel", kind, "--save-intermediate")
        assert cli("estimate", blob, *options, "-o", kind, "--quiet").code == 0
    return occupy.load(work / "map"), occupy.load(work / "coarse")


def test_larger_voxels_lie_where_the_maps_do(large_and_small, blob, work):
    found, volume = read_map(work / "coarse" / "blob_scale.mrc"), read_map(blob)
    assert found.shape == (28, 28, 28)
    assert found.voxel_size == pytest.approx([40 * 2 / 28] * 3)
    for share in (0.0, 0.5, 1.0):
        inside = [np.multiply(share, each.shape) for each in (found, volume)]
        np.testing.assert_allclose(found.position(inside[0]), volume.position(inside[1]), atol=1e-4)
    assert mrcfile.validate(work / "coarse" / "blob_scale.mrc")
    for product in ("amplified", "lowpass"):
        files = [work / kind / f"blob_{product}.mrc" for kind in ("map", "coarse")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_larger_voxels_are_read_on_the_maps_grid(large_and_small, cli, half_mask, work):
    plain, small = large_and_small
    for product, lazy in plain.maps["blob"].items():
        other = small.maps["blob"][product]
        assert other.shape == lazy.shape
        off = np.abs(other.data - lazy.data)
        if product in ("scale", "occupancy", "uncertainty"):
            # Neighbours are taken off at the voxels of the file: before it is interpolated, or after.
            assert off.mean() < 0.01
            assert off[lazy.data > 0.1].mean() < 0.03
        else:
            assert off.max() < 1e-6
        places = [each.volume().position((7, 11, 13)) for each in (lazy, other)]
        np.testing.assert_allclose(places[0], places[1], atol=1e-4)
    for kind in ("map", "coarse"):
        assert cli("regions", kind, "--masks", half_mask, "-o", kind, "--quiet").code == 0
        assert cli("modify", kind, "--sigmoid", 4, "--quiet").code == 0
        assert cli("mask", "solvent", kind, "-o", f"{kind}.mrc").code == 0
    tables = [(work / kind / "blob_regions.csv").read_text().splitlines() for kind in ("map", "coarse")]
    values = [float(table[-1].split(",")[2]) for table in tables]
    assert values[0] == pytest.approx(values[1], abs=0.01)
    for name in ("map.mrc", "coarse.mrc"), ("map/blob_sigmoid.mrc", "coarse/blob_sigmoid.mrc"):
        made = [read_map(work / each) for each in name]
        assert np.corrcoef(made[0].data.ravel(), made[1].data.ravel())[0, 1] > 0.95
        assert np.mean(np.abs(made[0].data - made[1].data)) < 0.015
        assert made[0].voxel_size == pytest.approx(made[1].voxel_size)


def test_where_the_maps_voxels_are_the_larger_ones_they_stay(estimated, blob):
    got = estimated("--lowpass", 6, "--output-voxel", "coarse")
    assert got.record["options"]["output_voxel"] == "coarse"
    assert got.record["settings"]["shape"] > [40] * 3
    assert got["scale"].shape == read_map(blob).shape


def test_occupancy_of_a_target(estimated, half_mask):
    got = estimated("--target-mask", half_mask, "--save-intermediate", "--estimator", "local")
    target = got.record["numbers"]["target"]
    assert target["voxels"] == int((read_map(half_mask).data > 0.5).sum())
    low, inside = got["lowpass"], read_map(half_mask).data > 0.5
    assert target["occupancy"] == pytest.approx(low[inside].max() / target["full_scale"], rel=1e-6)
    # The maximum of a textured region lies above its mean, hence above one half.
    assert 0.4 < target["occupancy"] < 0.7
    assert got.record["inputs"]["target_mask"]["path"] == str(half_mask)
    assert "target occupancy" in (got.folder / "blob_occupy.log").read_text(encoding="utf-8")
    assert "target" not in estimated().record["numbers"]


def test_a_solvent_mask_moves_the_fit_and_not_the_scale(estimated, blob, work):
    volume = read_map(blob)
    z, y, x = np.indices(volume.shape) - 19.5
    content = (z**2 + y**2 + x**2 < 15**2).astype(np.float32)
    write_map(work / "content.mrc", volume.with_data(content))
    write_map(work / "solvent.mrc", volume.with_data(1 - content))
    plain = estimated()
    first, second = (estimated("--solvent-mask", work / f"{name}.mrc") for name in ("content", "solvent"))
    assert np.array_equal(first["scale"], plain["scale"])
    assert first.record["numbers"]["solvent"] != plain.record["numbers"]["solvent"]
    # Content masks and solvent masks both work, and say the same.
    assert first.record["numbers"]["solvent"] == second.record["numbers"]["solvent"]
    assert np.array_equal(first["confidence"], second["confidence"])


def test_a_seed_repeats_the_noise_and_another_does_not(estimated, body):
    first, again, other = (estimated("--attenuate", 4, "--seed", seed) for seed in (7, 7, 8))
    assert body(first.path("attenuated")) == body(again.path("attenuated"))
    assert not np.array_equal(first["attenuated"], other["attenuated"])
    assert first.record["settings"]["seed"] == 7
    # With the solvent excluded there is no noise to draw.
    one, two = (estimated("--attenuate", 4, "--exclude-solvent", "--seed", seed) for seed in (7, 8))
    assert np.array_equal(one["attenuated"], two["attenuated"])


@pytest.mark.parametrize("mode", ["occupancy", "resolution"])
@pytest.mark.parametrize("estimator", ["local", "nlf"])
def test_threads_change_nothing(estimated, mode, estimator, body):
    options = (*ALL, "--mode", mode, "--estimator", estimator)
    one, two = estimated(*options, "--threads", 1), estimated(*options, "--threads", 2)
    for product in MAPS:
        assert body(one.path(product)) == body(two.path(product)), product


def test_modes_differ_in_what_they_look_at(estimated):
    occupancy, resolution = (
        estimated("--mode", mode, "--estimator", "local") for mode in ("occupancy", "resolution")
    )
    assert occupancy.record["numbers"]["full_scale_value"] < resolution.record["numbers"]["full_scale_value"]
    assert np.array_equal(occupancy["confidence"], resolution["confidence"])


def test_recalibration_puts_zero_at_the_lowest_confident_scale(estimated):
    plain, moved = estimated("--estimator", "local"), estimated("--recalibrate")
    lowest = plain.record["numbers"]["lowest_confident_scale"]
    expected = np.clip((plain["scale"] - lowest) / (1 - lowest), 0, 1)
    np.testing.assert_allclose(moved["scale"], expected, atol=1e-6)


def test_hedging_lowers_confidence(estimated):
    # On the map's own grid: between the voxels of a coarse one a power of a mean is no mean of powers.
    local = ("--estimator", "local")
    plain, hedged = estimated(*local)["confidence"], estimated(*local, "--hedge", 2)["confidence"]
    np.testing.assert_allclose(hedged, plain**2, atol=1e-5)


def test_the_contour_level_given_is_the_one_shown(estimated):
    got = estimated("--level", 0.2345)
    assert "level 0.2345\n" in got.script
    assert got.record["options"]["level"] == 0.2345
    assert "level 0.2345" not in estimated().script


def test_a_voxel_size_takes_the_place_of_the_headers(estimated, cli, blob, half_mask, work, body):
    got = estimated("--voxel-size", 1.5)
    assert got.record["inputs"]["map"]["voxel_size_angstrom_columns_rows_sections"] == [1.5] * 3
    assert read_map(got.path("scale")).voxel_size == pytest.approx((1.5,) * 3)
    # Also for maps, and their masks, whose headers give none.
    for source in (blob, half_mask):
        raw = bytearray(source.read_bytes())
        raw[40:52] = bytes(12)
        (work / source.name).write_bytes(raw)
    options = ("--voxel-size", 1.5, "--target-mask", work / "half.mrc", "-o", work / "zero", "--quiet")
    assert cli(work / "blob.mrc", *options).code == 0
    assert body(work / "zero" / "blob_scale.mrc") == body(got.path("scale"))


@pytest.mark.parametrize("name", ["blob.map", "my map.ccp4", "x.y.mrc.gz", "blob.mrc.bz2", "Ångström ü.mrc"])
def test_names_of_files(cli, blob, work, result, name):
    import bz2
    import gzip

    packed = {"gz": gzip.compress, "bz2": bz2.compress}.get(name.rsplit(".")[-1], bytes)
    (work / name).write_bytes(packed(blob.read_bytes()))
    assert cli(name, "--quiet").code == 0
    stem = map_stem(Path(name))
    got = result(work / f"occupy_{stem}", stem)
    # ChimeraX opens no compressed maps.
    copy = set() if packed is bytes else {f"{stem}_input.mrc"}
    assert got.names == copy | {
        f"{stem}_scale.mrc", f"{stem}_confidence.mrc", f"{stem}_occupancy.mrc", f"{stem}_uncertainty.mrc",
        f"{stem}_occupy.json",
        f"{stem}.cxc",
        f"{stem}_occupy.log",
    }  # fmt: skip
    assert got["scale"].shape == read_map(blob).shape
    assert opened(got)[0] == (got.folder / f"{stem}_input.mrc" if copy else work / name)


def test_a_failed_repeat_leaves_no_record_that_vouches_for_other_maps(estimated, cli, blob, monkeypatch):
    got = estimated("--amplify", 3)
    before = got["amplified"].copy()

    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("occupy.report.results.write_text", full)
    assert cli("estimate", blob, "-o", got.folder, "--quiet", "--amplify", 5).code == 1
    assert not np.array_equal(got["amplified"], before)
    assert not (got.folder / "blob_occupy.json").exists()
