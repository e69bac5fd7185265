"""Settings say what was meant, or that it makes no sense."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.errors import InputError
from occupy.numerics.histogram import tau_of
from occupy.numerics.morphology import ball_footprint
from occupy.resolve import _working_grid, resolve
from occupy.settings import Settings, parse_tile


def resolved(voxel=1.0, box=100, **options):
    options.setdefault("estimator", "local")
    size = (voxel,) * 3 if isinstance(voxel, float) else voxel
    shape = (box,) * 3 if isinstance(box, int) else box
    return resolve(Settings(**options), shape, size)


@pytest.mark.parametrize(
    ("voxel", "lowpass", "side", "voxels", "tau"),
    [
        (3.54, 10.62, 3, 19, 0.890),  # beta_galactosidase
        (1.527, 8.0, 5, 81, 0.961),
        (2.75, 8.25, 3, 19, 0.890),  # relion_50s
        (1.6, 8.0, 5, 81, 0.961),  # 8 / 1.6 is 5 in spite of rounding
        (0.8, 8.0, 9, 509, None),  # 515 points within 5, less the six the cube of 9 cuts off
        (0.5, 8.0, 9, 729, None),  # the cube of 9 lies inside the ball
    ],
)
def test_what_is_chosen_for_a_voxel_size(voxel, lowpass, side, voxels, tau):
    found = resolved(voxel)
    assert found.lowpass == pytest.approx(lowpass)
    assert found.kernel_size == (side,) * 3
    assert found.kernel_radius == pytest.approx((lowpass / (2 * voxel),) * 3)
    assert found.kernel_voxels == voxels == ball_footprint(found.kernel_radius, found.kernel_size).sum()
    assert found.tau == tau_of(voxels)
    if tau is not None:
        assert found.tau == pytest.approx(tau, abs=5e-4)


def test_lowpass_and_resolution():
    assert resolved(1.0, resolution=4.0).lowpass == 8.0
    assert resolved(1.0, resolution=12.5).lowpass == 12.5
    assert resolved(4.0, resolution=9.0).lowpass == 12.0
    assert resolved(1.0, lowpass=5.0).lowpass == 5.0
    assert resolved(1.0, lowpass=5.0, resolution=12.0).lowpass == 12.0
    assert resolved(1.0, lowpass=8.0, resolution=4.0).lowpass == 8.0
    assert resolved((1.0, 2.0, 4.0)).lowpass == 12.0  # three of the largest voxels


@pytest.mark.parametrize(
    ("lowpass", "side"),
    [(2.0, 3), (3.99, 3), (4.0, 5), (5.99, 5), (6.0, 7), (7.99, 7), (8.0, 9), (9.5, 9), (60.0, 9)],
)
def test_the_published_footprint_grows_by_two_voxels_for_every_two_of_low_pass(lowpass, side):
    # As observed of OccuPy 0.1.13, at a voxel size of 1 Å.
    assert resolved(1.0, 400, lowpass=lowpass).kernel_size == (side,) * 3


@given(st.floats(0.3, 12), st.floats(2, 60), st.floats(1.001, 3))
def test_the_footprint_depends_on_voxels_per_low_pass_only(voxel, lowpass, factor):
    one, same = resolved(voxel, 400, lowpass=lowpass), resolved(voxel * 2, 400, lowpass=lowpass * 2)
    assert (same.kernel_size, same.kernel_voxels) == (one.kernel_size, one.kernel_voxels)
    assert resolved(voxel * factor, 400, lowpass=lowpass).kernel_voxels <= one.kernel_voxels
    # Its radius is a length: half the low-pass.
    assert one.kernel_radius[0] * voxel == pytest.approx(lowpass / 2)


def test_the_footprint_of_an_anisotropic_grid_is_round_in_space():
    found = resolved((2.0, 1.0, 1.0), lowpass=8.0)
    assert found.kernel_size == (5, 9, 9)
    assert found.kernel_radius == (2.0, 4.0, 4.0)


def test_footprint_and_tau_by_hand():
    assert resolved(kernel_size=5).kernel_size == (5, 5, 5)
    assert resolved(kernel_size=5, lowpass=8.0).kernel_radius == (4.0, 4.0, 4.0)
    assert resolved(kernel_size=5, kernel_radius=2.62).kernel_voxels == 81
    assert resolved(tau=0.9).tau == 0.9


def test_tiles():
    assert resolved(2.0, 200, tile_size="40A").tile_size == (20, 20, 20)
    assert resolved((1.0, 2.0, 4.0), 200, tile_size="40 Å").tile_size == (40, 20, 10)
    assert resolved(2.0, 200, tile_size=12).tile_size == (12, 12, 12)
    assert resolved(2.0, 200, tile_size="12").tile_size == (12, 12, 12)
    assert resolved(2.0, (8, 200, 9), tile_size=12).tile_size == (8, 12, 9)  # no larger than the box
    assert resolved(30.0, 200, tile_size="10A").tile_size == (1, 1, 1)  # no smaller than a voxel
    assert resolved(1.0, 300).tile_size == (40, 40, 40)  # five low-pass resolutions
    assert resolved(1.0, (60, 300, 300)).tile_size == (20, 40, 40)  # but a third of the box at most


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (12, (12, False)),
        ("12", (12, False)),
        (" 12 px ", (12, False)),
        ("12.0", (12, False)),
        ("40A", (40, True)),
        ("40.5 Å", (40.5, True)),
        ("40 angstrom", (40, True)),
    ],
)
def test_sizes_of_tiles_are_read(text, meaning):
    assert parse_tile(text) == meaning


@pytest.mark.parametrize(
    "text", ["", "A", "12.5", "-3", "0", "0A", "12 nm", "1e3", "nan", "9" * 400, "4 0", True, 12.5]
)
def test_sizes_of_tiles_that_make_no_sense_are_quoted(text):
    with pytest.raises(InputError) as caught:
        Settings(tile_size=text)
    assert repr(text) in str(caught.value)


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_an_input_error(text):
    try:
        side, _ = parse_tile(text)
    except InputError as error:
        if repr(text) not in str(error):
            pytest.fail(f"{text!r} is not quoted: {error}")
    else:
        assert side > 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mode", "occ"),
        ("estimator", "magic"),
        ("resolution", 0.0),
        ("resolution", float("nan")),
        ("lowpass", -8.0),
        ("lowpass", float("inf")),
        ("lowpass_output", 0),
        ("kernel_radius", -1.5),
        ("kernel_size", 4),
        ("kernel_size", -1),
        ("kernel_size", 33),
        ("tau", 0.0),
        ("tau", 1.0),
        ("amplify", 0.5),
        ("attenuate", float("nan")),
        ("sigmoid", -1),
        ("pivot", 0.0),
        ("pivot", 1.0),
        ("pivot", float("nan")),
        ("hedge", 0.9),
        ("hedge", float("inf")),
        ("scale_limit", -0.1),
        ("scale_limit", 1.5),
        ("max_box", 31),
        ("threads", 0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_quoted(option, value):
    with pytest.raises(InputError) as caught:
        Settings(**{option: value})
    message = str(caught.value)
    assert (repr(value) in message) or (str(value) in message)
    assert option.replace("_", " ") in message.replace("_", " ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lowpass", "8"),
        ("amplify", True),
        ("tau", "0.9"),
        ("resolution", [4]),
        ("threads", 1.5),
        ("threads", 2.0),
        ("kernel_size", 5.0),
        ("kernel_size", True),
        ("max_box", 64.0),
        ("seed", "0"),
        ("seed", None),
        ("pivot", "0.5"),
        ("hedge", None),
        ("scale_limit", False),
        ("naive", 1),
        ("bfactor", None),
        ("use_confidence", "no"),
    ],
)
def test_wrong_types_are_type_errors(option, value):
    with pytest.raises(TypeError, match=option):
        Settings(**{option: value})


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().lowpass = 3.0


def test_a_small_map_keeps_its_grid():
    assert _working_grid((100, 90, 80), (1.0, 2.0, 3.0), None) == ((100, 90, 80), (1.0, 2.0, 3.0))
    assert _working_grid((100, 90, 80), (1.0, 2.0, 3.0), 100) == ((100, 90, 80), (1.0, 2.0, 3.0))


def test_a_large_map_shrinks_in_proportion():
    shape, size = _working_grid((200, 100, 150), (1.0, 1.0, 1.5), 100)
    assert shape == (100, 50, 74)
    assert size == pytest.approx((2.0, 2.0, 1.5 * 150 / 74))
    assert _working_grid((400, 400, 1), (1.0,) * 3, 256)[0] == (256, 256, 1)


@given(st.tuples(*[st.integers(1, 700)] * 3), st.tuples(*[st.floats(0.5, 5)] * 3), st.integers(32, 512))
def test_the_working_grid_fills_the_same_box(shape, voxel, max_box):
    grid, size = _working_grid(shape, voxel, max_box)
    for n, m, a, b in zip(shape, grid, voxel, size, strict=True):
        assert 1 <= m <= max(n, 1) or (m, n) == (2, 1)
        assert m * b == pytest.approx(n * a)
    if max(shape) > max_box:
        assert max(grid) == max_box - max_box % 2
    else:
        assert grid == shape


def test_the_working_grid_decides_the_rest():
    found = resolve(Settings(max_box=100), (200, 200, 200), (2.0, 2.0, 2.0))
    assert found.voxel_size == (4.0, 4.0, 4.0)
    assert found.lowpass == 12.0
    assert found.shape == (100, 100, 100)


def test_everything_is_decided_and_can_be_recorded():
    found = resolved(threads=3, amplify=2, seed=5)
    assert (found.threads, found.amplify, found.seed) == (3, 2, 5)
    assert resolved().threads >= 1
    values = json.loads(json.dumps(found.as_dict()))
    may_be_open = {"fdr", "amplify", "attenuate", "sigmoid", "lowpass_output"}
    assert {name for name, value in values.items() if value is None} == may_be_open - {"amplify"}


def test_the_calibrated_footprint_is_a_length():
    for voxel, lowpass in ((1.0, 9.0), (2.0, 9.0), (4.0, 12.0), (8.0, 24.0)):
        found = resolved(voxel, estimator="calibrated")
        assert found.kernel_size == (5,) * 3
        assert found.kernel_voxels == 57
        assert found.lowpass == lowpass
        assert 3.9 <= lowpass / found.voxel_size[0] < 4.4
