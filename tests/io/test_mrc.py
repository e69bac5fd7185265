"""Maps are read and written with everything their headers say; damaged files end in one line."""

import bz2
import gzip
import io
import itertools
import tracemalloc
from dataclasses import replace

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from occupy._version import __version__
from occupy.errors import InputError
from occupy.io.mrc import map_stem, open_writer, read_map, write_map
from occupy.volume import Frame, Volume
from strategies import MODES, arrays, content, cuts, header, volumes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("maps")


def save(path, raw):
    path.write_bytes(raw)
    return path


VALUES = {
    0: np.arange(-60, 60),
    1: np.arange(-60, 60) * 500,
    2: np.linspace(-1e6, 1e6, 120),
    6: np.arange(120) * 546,
    12: np.linspace(-3, 3, 120),
}


# Reading


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_every_mode_and_byte_order(tmp_path, mode, order, pack):
    data = VALUES[mode].reshape(4, 5, 6)
    volume = read_map(save(tmp_path / "a.mrc", pack(content(data, mode, order))))
    np.testing.assert_array_equal(volume.data, data.astype(MODES[mode]).astype(np.float32))
    assert volume.data.dtype == np.float32
    assert volume.data.dtype.isnative
    assert volume.voxel_size == (1.5, 1.5, 1.5)
    assert volume.notices == ()


@pytest.mark.parametrize("mode", MODES)
def test_files_written_by_mrcfile(tmp_path, mode):
    data = VALUES[mode].reshape(4, 5, 6).astype(MODES[mode])
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(data)
        file.voxel_size = (1.0, 2.0, 3.0)
        file.nstart = (7, 8, 9)
        file.header.origin = (1, -2, 3)
    volume = read_map(tmp_path / "a.mrc")
    np.testing.assert_array_equal(volume.data, data.astype(np.float32))
    assert volume.voxel_size == (3.0, 2.0, 1.0)  # sections, rows, columns
    assert volume.frame.nstart == (7, 8, 9)
    assert volume.frame.origin == (1.0, -2.0, 3.0)


def test_large_planes_are_read_in_pieces(tmp_path, monkeypatch):
    data = np.arange(7 * 6 * 5).reshape(7, 6, 5)
    monkeypatch.setattr("occupy.io.mrc.planes_per_slab", lambda shape, voxels: 2)
    for mode, order in itertools.product((1, 2), "<>"):
        volume = read_map(save(tmp_path / "a.mrc", content(data, mode, order)))
        np.testing.assert_array_equal(volume.data, data)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("flags", "values"), [(0, [0, 127, 128, 255]), (1, [0, 127, -128, -1])])
def test_imods_unsigned_bytes(tmp_path, order, flags, values):
    record = bytearray(content(np.zeros((1, 2, 2)), 0, order))
    record[152:160] = np.array([1146047817, flags], dtype=f"{order}i4").tobytes()
    record[1024:] = bytes([0, 127, 128, 255])
    np.testing.assert_array_equal(read_map(save(tmp_path / "a.mrc", record)).data.ravel(), values)


@pytest.mark.parametrize("order", "<>")
def test_without_machine_stamp_the_byte_order_is_guessed_and_said(tmp_path, order):
    data = np.arange(24).reshape(2, 3, 4)
    volume = read_map(save(tmp_path / "a.mrc", content(data, 1, order, machst=[0, 0, 0, 0])))
    np.testing.assert_array_equal(volume.data, data)
    assert [notice.code for notice in volume.notices] == ["machine-stamp"]


@pytest.mark.parametrize("order", "<>")
def test_a_wrong_machine_stamp_is_overruled_and_said(tmp_path, order):
    data = np.arange(24).reshape(2, 3, 4)
    wrong = [0x11, 0x11, 0, 0] if order == "<" else [0x44, 0x44, 0, 0]
    volume = read_map(save(tmp_path / "a.mrc", content(data, 2, order, machst=wrong)))
    np.testing.assert_array_equal(volume.data, data)
    assert [notice.code for notice in volume.notices] == ["machine-stamp"]


def test_old_files_without_map_word(tmp_path):
    volume = read_map(save(tmp_path / "a.mrc", content(np.ones((2, 2, 2)), map=b"\0\0\0\0")))
    assert [notice.code for notice in volume.notices] == ["map-id"]


def test_impossible_axes_are_taken_as_xyz_and_said(tmp_path):
    volume = read_map(save(tmp_path / "a.mrc", content(np.ones((2, 3, 4)), mapc=0, mapr=0, maps=0)))
    assert volume.frame.axes == (1, 2, 3)
    assert [notice.code for notice in volume.notices] == ["axes"]


@pytest.mark.parametrize("axes", list(itertools.permutations((1, 2, 3))))
def test_voxel_size_follows_the_axes(tmp_path, axes):
    raw = content(np.ones((2, 3, 4)), mapc=axes[0], mapr=axes[1], maps=axes[2], mx=10, my=10, mz=10)
    record = np.frombuffer(bytearray(raw[:1024]), mrcfile.dtypes.HEADER_DTYPE.newbyteorder("<"))
    record["cella"][0] = (10, 20, 30)
    volume = read_map(save(tmp_path / "a.mrc", record.tobytes() + raw[1024:]))
    assert volume.frame.axes == axes
    assert volume.voxel_size == (float(axes[2]), float(axes[1]), float(axes[0]))


def test_missing_sampling_is_taken_from_the_size_along_the_same_axis(tmp_path):
    raw = content(np.ones((2, 3, 4)), mapc=3, mapr=1, maps=2, mx=0, my=0, mz=-5)
    volume = read_map(save(tmp_path / "a.mrc", raw))
    assert volume.frame.sampling == (3, 2, 4)  # x along rows, y along sections, z along columns


def test_voxel_size_can_be_given(tmp_path):
    raw = content(np.ones((2, 3, 4)))
    blank = bytearray(raw)
    blank[40:52] = b"\0" * 12
    with pytest.raises(InputError, match="--voxel-size"):
        read_map(save(tmp_path / "a.mrc", blank))
    volume = read_map(tmp_path / "a.mrc", voxel_size=2.5)
    assert volume.voxel_size == (2.5, 2.5, 2.5)
    assert volume.frame.cell == (10.0, 7.5, 5.0)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match=str(wrong)):
            read_map(tmp_path / "a.mrc", voxel_size=wrong)


@pytest.mark.parametrize(("order", "kept"), [("<", True), (">", False)])
def test_binary_extended_headers_of_the_other_byte_order_are_left_out(tmp_path, order, kept):
    extended = bytes(range(256))
    raw = content(np.ones((2, 2, 2)), order=order, extended=extended, exttyp=b"FEI1")
    volume = read_map(save(tmp_path / "a.mrc", raw))
    assert volume.frame.extended == (extended if kept else b"")
    assert volume.frame.extended_type == (b"FEI1" if kept else b"")
    assert [n.code for n in volume.notices] == ([] if kept else ["extended-header"])
    assert (volume.data == 1).all()


def test_text_extended_headers_are_kept_in_either_byte_order(tmp_path):
    text = b"X, Y, Z".ljust(80) + b"-X, Y+1/2, -Z".ljust(80)
    volume = read_map(save(tmp_path / "a.mrc", content(np.ones((2, 2, 2)), order=">", extended=text)))
    assert volume.frame.extended == text


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_masks_compress_well_and_are_read(tmp_path, pack):
    data = np.zeros((40, 128, 128))
    data[20, 60, 60] = 1
    raw = pack(content(data))
    assert len(raw) < 4096
    np.testing.assert_array_equal(read_map(save(tmp_path / "mask.mrc.gz", raw)).data, data)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("emd_1.map", "emd_1"),
        ("/a/b.c/emd_1.map.gz", "emd_1"),
        ("run_it025_class001.mrc", "run_it025_class001"),
        ("x.y.CCP4.BZ2", "x.y"),
        ("plain", "plain"),
        ("a.gz", "a"),
    ],
)
def test_stems(name, stem):
    assert map_stem(name) == stem


# Refusing


def refusal(path, *parts):
    with pytest.raises(InputError) as caught:
        read_map(path)
    text = str(caught.value)
    assert "\n" not in text
    for part in (path, *parts):
        assert str(part) in text
    return text


def test_what_is_not_a_map_is_refused(tmp_path):
    refusal(tmp_path / "none.mrc", "no such file")
    refusal(tmp_path, "directory")
    refusal(save(tmp_path / "empty.mrc", b""), "truncated")
    refusal(save(tmp_path / "short.mrc", b"x" * 1000), "header")
    refusal(save(tmp_path / "text.mrc", b"ATOM  " * 1000), "not an MRC/CCP4 map")
    refusal(save(tmp_path / "stack.mrcs", content(np.ones((2, 2, 2)))), "stack of images")
    refusal(save(tmp_path / "complex.mrc", header((2, 2, 2), 4).tobytes() + b"\0" * 64), "complex")
    refusal(save(tmp_path / "packed.mrc", header((2, 2, 2), 101).tobytes() + b"\0" * 64), "mode 101")


def test_truncation_is_said_with_numbers(tmp_path):
    raw = content(np.ones((4, 5, 6)))
    refusal(save(tmp_path / "a.mrc", raw[:-1]), "truncated", "6 x 5 x 4", len(raw) - 1)
    refusal(save(tmp_path / "b.mrc.gz", gzip.compress(raw[:-1])), "truncated")
    refusal(save(tmp_path / "c.mrc.gz", gzip.compress(raw)[:-20]), "damaged or truncated")
    refusal(save(tmp_path / "d.mrc", raw[:1024].replace(b"MAP ", b"MAP ")), "truncated")


def test_an_extended_header_longer_than_the_file(tmp_path):
    raw = content(np.ones((4, 5, 6)), extended=b"")
    for size in (10**6, -1, 2**31 - 1, -(2**31)):
        refusal(save(tmp_path / "a.mrc", claiming(raw, size) + b"more"), f"extended header of {size} bytes")


def claiming(raw, size):
    """Return a file whose header claims an extended header of a size."""
    return raw[:92] + np.array(size, "<i4").tobytes() + raw[96:]


@pytest.mark.parametrize("size", [80, -1, 10**6])
def test_an_extended_header_that_is_not_there_is_said(tmp_path, size):
    data = np.arange(120).reshape(4, 5, 6)
    volume = read_map(save(tmp_path / "a.map", claiming(content(data), size)))
    np.testing.assert_array_equal(volume.data, data)
    assert [notice.code for notice in volume.notices] == ["extended-header"]


def test_m06_an_extended_header_of_a_gigabyte_takes_no_memory(tmp_path):
    claimed = 1 << 26
    raw = claiming(content(np.ones((4, 5, 6))), claimed)
    with gzip.open(tmp_path / "a.mrc.gz", "wb", 1) as file:
        file.write(raw[:1024])
        for _ in range(claimed >> 20):
            file.write(bytes(1 << 20))
        file.write(raw[1024:])
    tracemalloc.start()
    volume = read_map(tmp_path / "a.mrc.gz")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < claimed / 4
    assert [notice.code for notice in volume.notices] == ["extended-header"]
    assert volume.frame.extended == b""
    assert volume.data.sum() == 120


# Space groups and places


@pytest.mark.parametrize("group", [1065353216, -1, 231, 400, 631])
def test_m02_a_space_group_that_is_none_is_said_and_not_passed_on(tmp_path, group):
    volume = read_map(save(tmp_path / "a.mrc", content(np.ones((4, 5, 6)), ispg=group)))
    assert volume.frame.space_group == 1
    assert [notice.code for notice in volume.notices] == ["space-group"]
    assert str(group) in volume.notices[0].text


@pytest.mark.parametrize(
    ("sections", "read_as", "codes"), [(4, 1, ["space-group"]), (2, 401, []), (1, 401, [])]
)
def test_m03_a_stack_is_told_by_its_sections(tmp_path, sections, read_as, codes):
    volume = read_map(save(tmp_path / "a.mrc", content(np.ones((4, 5, 6)), ispg=401, mz=sections)))
    assert volume.frame.space_group == read_as
    assert [notice.code for notice in volume.notices] == codes


def placed(path, origin, start=(0, 0, 0), **fields):
    names = dict(zip(("nxstart", "nystart", "nzstart"), start, strict=True))
    return read_map(save(path, content(np.ones((4, 5, 6)), origin=origin, **names, **fields)))


@pytest.mark.parametrize(
    ("name", "fields", "used"),
    [
        ("a.mrc", {}, True),
        ("a.rec", {}, True),
        ("a.map", {}, False),
        ("a.CCP4", {}, False),
        ("a.map.gz", {}, False),
        ("a.mrc", {"map": b"MAP"}, False),
    ],
)
def test_m04_maps_lie_where_chimerax_puts_them(tmp_path, name, fields, used):
    volume = placed(tmp_path / name, (50, 60, 70), (1, 2, 3), **fields)
    wanted = (50, 60, 70) if used else (1.5, 3.0, 4.5)
    np.testing.assert_allclose(volume.position([0, 0, 0]), wanted)
    assert [notice.code for notice in volume.notices] == ([] if used else ["origin"])
    # What is written is read as MRC: at the same place.
    write_map(tmp_path / "out.mrc", volume)
    np.testing.assert_allclose(read_map(tmp_path / "out.mrc").position([0, 0, 0]), wanted)


def test_m04_an_origin_that_says_the_same_is_kept_without_a_word(tmp_path):
    volume = placed(tmp_path / "a.map", (1.5, 3.0, 4.5), (1, 2, 3))
    assert volume.frame.origin == (1.5, 3.0, 4.5)
    assert volume.notices == ()


@pytest.mark.parametrize("origin", [(np.nan, 60, 70), (3e38, 3e38, 3e38), (1, 1, -np.inf)])
def test_m04_origins_that_cannot_be_meant_leave_the_place_to_nstart(tmp_path, origin):
    volume = placed(tmp_path / "a.mrc", origin, (1, 2, 3))
    np.testing.assert_allclose(volume.position([0, 0, 0]), (1.5, 3.0, 4.5))


def test_m04_starts_more_than_ten_boxes_away_count_as_not_set(tmp_path):
    np.testing.assert_allclose(placed(tmp_path / "a.mrc", (0, 0, 0), (1, 2, 61)).position([0, 0, 0]), 0)
    np.testing.assert_allclose(placed(tmp_path / "a.mrc", (0, 0, 0), (0, 0, 60)).position([0, 0, 0])[2], 90)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_wrong_checksum_is_noticed(tmp_path, pack):
    rng = np.random.default_rng(0)
    raw = bytearray(pack(content(rng.normal(size=(9, 9, 9)))))
    raw[-6 if pack is gzip.compress else -3] ^= 0xFF  # inside the stored checksum
    refusal(save(tmp_path / "a.map.gz", raw))


# Writing


def expected_labels(frame, what):
    return (*[text for text in frame.labels if text.strip(" \x00")][:9], f"occupy {__version__}: {what}")


@given(volumes(), st.sampled_from(["scale", "map"]))
def test_every_field_survives(folder, volume, what):
    path = folder / "roundtrip.mrc"
    write_map(path, volume, what)
    back = read_map(path)
    np.testing.assert_array_equal(back.data, volume.data)
    assert back.frame == replace(volume.frame, labels=expected_labels(volume.frame, what))
    assert back.voxel_size == pytest.approx(volume.voxel_size, rel=1e-12)
    assert back.notices == ()
    write_map(path, back, "again")
    again = read_map(path)
    assert again.frame == replace(back.frame, labels=expected_labels(back.frame, "again"))
    np.testing.assert_array_equal(again.data, back.data)


@settings(max_examples=30)
@given(volumes())
def test_mrcfile_reads_the_same(folder, volume):
    path = folder / "mrcfile.mrc"
    write_map(path, volume)
    frame = volume.frame
    if frame.space_group != 401:  # mrcfile wants a stack's sections to be a multiple of its sampling
        np.testing.assert_array_equal(mrcfile.read(path).reshape(volume.shape), volume.data)
    with mrcfile.open(path, header_only=True) as file:
        h = file.header
        assert (h.mapc, h.mapr, h.maps) == frame.axes
        assert (h.nxstart, h.nystart, h.nzstart) == frame.nstart
        assert (h.mx, h.my, h.mz) == frame.sampling
        assert tuple(h.cella.tolist()) == frame.cell
        assert tuple(h.cellb.tolist()) == frame.angles
        assert tuple(h.origin.tolist()) == frame.origin
        assert h.ispg == frame.space_group
        assert file.extended_header.tobytes() == frame.extended
        assert bytes(h.exttyp).rstrip(b"\0") == frame.extended_type
        assert h.nlabl == len(expected_labels(frame, "map"))
        filled = [bool(bytes(label).strip(b" \0")) for label in h.label]
        assert filled == [i < h.nlabl for i in range(10)]


@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 1, 2)])
@pytest.mark.parametrize("labels", [(), ("", "made by hand", "")])
def test_written_maps_are_valid(tmp_path, axes, labels):
    data = np.random.default_rng(0).normal(3, 2, (6, 7, 8)).astype(np.float32)
    frame = Frame(axes=axes, cell=(8.0, 7.0, 6.0), sampling=(8, 7, 6), nstart=(1, 2, 3), labels=labels)
    write_map(tmp_path / "a.mrc", Volume(data, (1.0, 1.0, 1.0), frame))
    report = io.StringIO()
    assert mrcfile.validate(tmp_path / "a.mrc", print_file=report), report.getvalue()


@given(arrays(kinds=("noise", "ties", "constant", "sparse", "offset")), st.data())
def test_statistics_of_the_header_whatever_the_slabs(folder, array, data):
    path = folder / "statistics.mrc"
    volume = Volume.from_array(array, 1.0)
    slabs = data.draw(st.permutations(data.draw(cuts(len(array)))))
    with open_writer(path, volume) as writer:
        for start, stop in slabs:
            writer.write_planes(start, array[start:stop])
    np.testing.assert_array_equal(read_map(path).data, array)
    check_statistics(path, array)


def check_statistics(path, array):
    with mrcfile.open(path, header_only=True) as file:
        h = file.header
    exact = array.astype(np.float64)
    assert (h.dmin, h.dmax) == (array.min(), array.max())
    assert h.dmean == pytest.approx(exact.mean(), rel=1e-6, abs=1e-7)
    # Squares are summed in float32 over 2¹⁷ voxels at a time.
    assert h.rms == pytest.approx(exact.std(), rel=5e-5, abs=1e-12)


@pytest.mark.parametrize(("mean", "spread"), [(10, 0.2), (1e5, 1.0), (-3e7, 20.0), (0, 1e-8), (1e30, 1e29)])
def test_statistics_with_a_large_mean(tmp_path, mean, spread):
    array = np.random.default_rng(0).normal(mean, spread, (90, 90, 90)).astype(np.float32)
    array[40:] += np.float32(3 * spread)  # slabs of different means
    write_map(tmp_path / "a.mrc", Volume.from_array(array, 1.0))
    check_statistics(tmp_path / "a.mrc", array)
    volume = Volume.from_array(array, 1.0)
    with open_writer(tmp_path / "b.mrc", volume) as writer:
        for start in range(0, 90, 7):
            writer.write_planes(start, array[start : start + 7])
    check_statistics(tmp_path / "b.mrc", array)


def test_statistics_where_the_first_voxel_is_far_from_the_rest(tmp_path):
    array = np.random.default_rng(0).normal(1e3, 0.1, (60, 60, 60)).astype(np.float32)
    array[0, 0, 0] = 950
    write_map(tmp_path / "a.mrc", Volume.from_array(array, 1.0))
    check_statistics(tmp_path / "a.mrc", array)


def test_infinite_values_can_be_written(tmp_path):
    array = np.zeros((2, 2, 2), dtype=np.float32)
    array[0, 0, 0], array[1, 1, 1] = np.inf, np.nan
    write_map(tmp_path / "a.mrc", Volume.from_array(array, 1.0))
    np.testing.assert_array_equal(read_map(tmp_path / "a.mrc").data, array)


def test_text_that_latin1_lacks_is_replaced(tmp_path):
    frame = Frame(cell=(2.0, 2.0, 2.0), sampling=(2, 2, 2), labels=("Å λ", "x" * 90))
    write_map(tmp_path / "a.mrc", Volume(np.ones((2, 2, 2), np.float32), (1.0,) * 3, frame))
    assert read_map(tmp_path / "a.mrc").frame.labels[:2] == ("Å ?", "x" * 80)


# Real files


@pytest.mark.parametrize("name", ["formats", "maps"])
def test_real_files(shared_data, tmp_path, name):
    endings = (".mrc", ".map", ".ccp4", ".gz", ".bz2")
    files = sorted(path for path in shared_data(name).iterdir() if path.suffix in endings)
    assert len(files) >= 8
    for path in files:
        volume = read_map(path)
        with mrcfile.open(path, permissive=True) as file:
            np.testing.assert_array_equal(volume.data, file.data.astype(np.float32), err_msg=path.name)
            theirs = file.header
            assert (theirs.mapc, theirs.mapr, theirs.maps) == volume.frame.axes
        write_map(tmp_path / "again.mrc", volume)
        again = read_map(tmp_path / "again.mrc")
        assert again.frame == replace(volume.frame, labels=expected_labels(volume.frame, "map")), path.name
        assert again.voxel_size == volume.voxel_size
        np.testing.assert_array_equal(again.data, volume.data)
        with mrcfile.open(tmp_path / "again.mrc", header_only=True) as file:
            for field in (
                "mapc",
                "mapr",
                "maps",
                "nxstart",
                "nystart",
                "nzstart",
                "cella",
                "cellb",
                "origin",
                "ispg",
            ):
                assert file.header[field].tolist() == theirs[field].tolist(), (path.name, field)
        check_statistics(tmp_path / "again.mrc", volume.data)


def test_variants_of_one_box_lie_where_their_headers_say(shared_data):
    folder = shared_data("formats")
    places = {}
    for name in ("emd_21457_seg", "emd_21457_seg_nstart", "emd_21457_seg_orig0"):
        volume = read_map(folder / f"{name}.mrc")
        places[name] = volume.position([0, 0, 0])
        with mrcfile.open(folder / f"{name}.mrc", permissive=True) as file:
            origin, start = file.header.origin.tolist(), file.nstart.tolist()
            size = file.voxel_size.tolist()
        wanted = origin if any(origin) else [s * a for s, a in zip(start, size, strict=True)]
        np.testing.assert_allclose(places[name], wanted, rtol=1e-5)
    assert len({tuple(np.round(place, 3)) for place in places.values()}) > 1
