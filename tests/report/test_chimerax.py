"""The script's commands, taken apart as ChimeraX would; the programme itself is not run."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np
import pytest

from occupy.errors import InputError, Notice
from occupy.numerics.mesh import sample, surface
from occupy.pipeline import Estimate, estimate
from occupy.report import chimerax
from occupy.report.chimerax import chimerax_script, contour_level, quoted, tile_sphere
from occupy.report.palette import SCALE_PALETTE
from occupy.report.surfaces import colouring, paint
from occupy.settings import Settings
from occupy.volume import Frame, Volume

FILES = {
    "map": "my map.mrc",
    "scale": "it's_scale.mrc",
    "confidence": 'a"b_confidence.mrc',
    "amplified": "#1;x_amplified.mrc",
    "sigmoid": "grün_sigmoid.mrc",
}
BAD = Notice("solvent-fit", 'bad solvent fit: no "width"; do not trust\nit \\ at all' + " and so on" * 20)


def blob(shape: tuple[int, int, int] = (48, 48, 48), noise: float = 0.1) -> np.ndarray:
    z, y, x = np.indices(shape)
    middle = [n / 2 for n in shape]
    radius = ((z - middle[0]) / 7) ** 2 + ((y - middle[1] - 3) / 6) ** 2 + ((x - middle[2] - 4) / 6) ** 2
    drawn = np.random.default_rng(1).normal(0, noise, shape) if noise else 0
    return (np.exp(-radius) + drawn).astype(np.float32)


@pytest.fixture(scope="module")
def plain() -> Estimate:
    return estimate(Volume.from_array(blob(), 3.0, "blob"))


def from_tile(est: Estimate) -> Estimate:
    return replace(est, full_scale=replace(est.full_scale, naive=False, calibration=None))


def commands(script: str, *words: str) -> list[list[str]]:
    """Return the commands that begin with these words, split, quotes taken off."""
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    parts = [shlex.split(line, comments=False, posix=True) for line in lines]
    return [part for part in parts if tuple(part[: len(words)]) == words]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_files_open_in_a_fixed_order_whatever_their_names(plain: Estimate) -> None:
    script = chimerax_script(plain, dict(reversed(FILES.items())))
    assert [command[1] for command in commands(script, "open")] == list(FILES.values())
    assert all(line[5] in "\"'" for line in script.splitlines() if line.startswith("open "))


@pytest.mark.parametrize("name", ["both'\".mrc", "line\nbreak.mrc", "back\\slash.mrc", "bell\a.mrc"])
def test_names_that_cannot_be_written_are_refused(plain: Estimate, name: str) -> None:
    with pytest.raises(InputError, match="rename"):
        chimerax_script(plain, {**FILES, "map": name})


def test_windows_separators_become_slashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chimerax.os, "sep", "\\")
    assert quoted("C:\\maps\\a.mrc") == '"C:/maps/a.mrc"'


def test_every_surface_has_one_level_full_sampling_and_the_scales_colours(plain: Estimate) -> None:
    script = chimerax_script(plain, FILES, level=0.25, minimum_scale=0.3)
    assert commands(script, "volume", "#1,2,3,4,5", "step")[0][3] == "1"
    (level,) = commands(script, "volume", "#1,4,5", "style")
    assert float(option(level, "level")) == 0.25
    (colour,) = commands(script, "color", "sample")
    assert colour[2] == "#1,4,5"
    assert option(colour, "map") == "#2"
    assert option(colour, "range") == "0.3,1"
    pairs = [pair.split(",") for pair in option(colour, "palette").split(":")]
    assert [(float(fraction), hue) for fraction, hue in pairs] == list(SCALE_PALETTE)
    (dust,) = commands(script, "surface", "dust")
    assert float(option(dust, "size")) == plain.settings.lowpass


@pytest.mark.parametrize(
    ("roles", "shown", "hidden"),
    [
        (["map", "scale"], "#1", "#2"),
        (["map", "scale", "confidence"], "#1", "#2,3"),
        (["map", "scale", "confidence", "amplified"], "#4", "#1,2,3"),
        (["map", "scale", "confidence", "amplified", "sigmoid"], "#5", "#1,2,3,4"),
    ],
)
def test_only_the_last_modified_map_or_else_the_map_is_shown(
    plain: Estimate, roles: list[str], shown: str, hidden: str
) -> None:
    script = chimerax_script(plain, {role: FILES[role] for role in roles})
    seen = [command[1:] for command in commands(script, "volume") if command[-1] in ("show", "hide")]
    assert seen == [[hidden, "hide"], [shown, "show"]]


def test_aliases_are_those_people_know(plain: Estimate) -> None:
    script = chimerax_script(plain, FILES)
    palette = ":".join(f"{fraction:g},{colour}" for fraction, colour in SCALE_PALETTE)
    lines = [line for line in script.splitlines() if line.startswith("alias ")]
    assert lines[0] == f"alias scale_color color sample $1 map $2 palette {palette} range 0,1 offset -6"
    assert lines[1] == "alias occupy_level volume #1,4,5 level $1"
    first, second = lines[2].split("; ")
    assert (
        first
        == f"alias occupy_scale_range color sample #1,4,5 map #2 palette {palette} range $1,$2 offset -6"
    )
    assert second.startswith(f"key {SCALE_PALETTE[0][1]}:$1 ")
    assert second.endswith(f" {SCALE_PALETTE[-1][1]}:$2")


def test_the_key_shows_the_colours_from_left_to_right_with_their_scale(plain: Estimate) -> None:
    (key,) = commands(chimerax_script(plain, FILES), "key")
    pairs = [word.split(":") for word in key[1 : key.index("pos")]]
    assert [colour for colour, _ in pairs] == [colour for _, colour in SCALE_PALETTE]
    labelled = {float(label): i for i, (_, label) in enumerate(pairs) if label}
    assert labelled == {0.0: 0, 0.25: 2, 0.5: 4, 0.75: 6, 1.0: 8}
    width, height = (float(v) for v in option(key, "size").split(","))
    assert width > height  # labels of vertical keys changed their order between versions


@pytest.mark.parametrize("max_box", [None, 32])
@pytest.mark.parametrize(
    "frame",
    [
        Frame(),
        Frame(origin=(10.0, -20.0, 30.0), nstart=(5, 6, 7)),
        Frame(nstart=(-5, 6, 7), axes=(3, 1, 2)),
        Frame(origin=(1.0, 2.0, 3.0), axes=(2, 3, 1)),
    ],
)
def test_spheres_lie_on_the_tiles_in_angstrom(frame: Frame, max_box: int | None) -> None:
    size = (2.0, 3.0, 4.0)
    volume = Volume(blob((40, 36, 48)), size, frame, "moved")
    est = from_tile(estimate(volume, Settings(max_box=max_box)))
    script = chimerax_script(est, FILES)
    for model, tile in (("#101", est.full_scale.largest), ("#102", est.full_scale.smallest)):
        (sphere,) = (c for c in commands(script, "shape", "sphere") if option(c, "modelId") == model)
        x_y_z = [0.0, 0.0, 0.0]
        for k in range(3):  # sections, rows, columns
            fine = est.volume.shape[k] / est.settings.shape[k]
            middle = (tile.start[k] + (est.full_scale.tile_size[k] - 1) / 2) * fine
            position = 2 - k
            space = frame.axes[position] - 1
            if any(frame.origin):
                x_y_z[space] = middle * size[k] + frame.origin[space]
            else:
                x_y_z[space] = (middle + frame.nstart[position]) * size[k]
        found = [float(v) for v in option(sphere, "center").split(",")]
        np.testing.assert_allclose(found, x_y_z, atol=0.006)
        side = np.mean(
            [t * a for t, a in zip(est.full_scale.tile_size, est.settings.voxel_size, strict=True)]
        )
        assert float(option(sphere, "radius")) == pytest.approx(side / 2, abs=0.006)
        assert commands(script, "rename", model)
    assert option(commands(script, "transparency")[0], "target") == "s"


def test_no_spheres_where_full_scale_comes_from_elsewhere(plain: Estimate) -> None:
    assert plain.full_scale.source != "tile"
    assert "shape sphere" not in chimerax_script(plain, FILES)
    assert chimerax_script(from_tile(plain), FILES).count("shape sphere") == 2


def test_what_is_only_information_is_no_label(plain: Estimate) -> None:
    found = replace(plain, notices=(Notice("neighbours", "half-maps found beside the map"),))
    assert "half-maps" not in chimerax_script(found, FILES)


def test_the_full_scale_sphere_sits_on_the_particle(plain: Estimate) -> None:
    centre, radius = tile_sphere(plain, plain.full_scale.largest)
    particle = np.array([24 + 4, 24 + 3, 24]) * 3.0
    assert np.linalg.norm(centre - particle) < radius


def test_a_red_label_is_there_only_when_the_fit_is_bad(plain: Estimate) -> None:
    def labels(est: Estimate) -> list[list[str]]:
        return commands(chimerax_script(est, FILES), "2dlabels")[1:]  # the first names the colour key

    assert labels(plain) == []
    masked = labels(replace(plain, notices=(Notice("masked", "the map is masked"),)))
    assert [option(label, "text") for label in masked] == ["the map is masked"]
    assert "bold" not in masked[0]
    bad = labels(replace(plain, notices=(BAD,)))
    assert option(bad[0], "text").startswith("BAD SOLVENT FIT")
    assert option(bad[0], "size") == "28"
    assert option(bad[0], "bold") == "true"
    assert len(bad) > 3  # long notices take several lines
    heights = [float(option(label, "ypos")) for label in bad]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == len(heights)
    assert not any(sign in option(label, "text") for label in bad for sign in ';\\"')


def test_every_line_is_one_command_and_the_view_comes_last(plain: Estimate) -> None:
    estimates = (plain, replace(plain, volume=replace(plain.volume, name="two\nlines")))
    known = {"open", "set", "lighting", "volume", "color", "surface", "alias", "key", "2dlabels", "view"}
    for est in estimates:
        lines = [line for line in chimerax_script(est, FILES).splitlines() if line and line[0] != "#"]
        assert {line.split()[0] for line in lines} == known
        assert lines[-1] == "view"
        assert "set bgColor white" in lines
        assert "lighting soft" in lines


def test_the_level_shows_weak_parts_and_little_noise() -> None:
    data = blob(noise=0.0) + 0.4 * np.roll(blob(noise=0.0), (-14, -14, -14), (0, 1, 2))
    noise = np.random.default_rng(2).normal(0, 0.03, data.shape)
    est = estimate(Volume.from_array(data + noise, 3.0))
    level = contour_level(est)
    assert level == pytest.approx(0.4 * est.full_scale.value)
    assert ((data + noise > level) & (data < 0.01)).mean() < 0.005
    masked = replace(est, full_scale=replace(est.full_scale, value=0.0), notices=(BAD,))
    assert 0.05 < contour_level(masked) < 0.15  # three deviations of noise, whatever the bad fit says


def test_wrong_arguments_are_refused_by_name(plain: Estimate) -> None:
    with pytest.raises(ValueError, match="'map' and 'scale'"):
        chimerax_script(plain, {"map": "a.mrc"})
    with pytest.raises(ValueError, match="picture"):
        chimerax_script(plain, {**FILES, "picture": "a.png"})
    for value in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="minimum scale"):
            chimerax_script(plain, FILES, minimum_scale=value)
    with pytest.raises(InputError, match="contour level"):
        chimerax_script(plain, FILES, level=float("inf"))


# Linear RGB as seen with no long, middle or short cones: Machado, Oliveira & Fernandes (2009), severity 1.
SEEN = {
    "normal": "1 0 0  0 1 0  0 0 1",
    "protanopia": "0.152286 1.052583 -0.204868  0.114503 0.786281 0.099216  -0.003882 -0.048116 1.051998",
    "deuteranopia": "0.367322 0.860646 -0.227968  0.280085 0.672501 0.047413  -0.011820 0.042940 0.968881",
    "tritanopia": "1.255528 -0.076749 -0.178779  -0.078411 0.930809 0.147602  0.004733 0.691367 0.303900",
}


@pytest.mark.parametrize("sight", SEEN)
def test_colours_differ_for_everybody(sight: str) -> None:
    colours = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for _, c in SCALE_PALETTE])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(SEEN[sight].split(), dtype=float).reshape(3, 3).T, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(seen @ to_xyz.T / [0.9505, 1.0, 1.089], 0.009)).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    apart = np.linalg.norm(lab[:, None] - lab, axis=2)
    steps = np.arange(len(lab))
    others = steps[:, None] != steps
    assert apart[others].min() > 8
    assert apart[np.abs(steps[:, None] - steps) >= 4].min() > 25
    assert (np.diff([fraction for fraction, _ in SCALE_PALETTE]) == 0.125).all()


@pytest.mark.parametrize(
    ("axes", "origin", "voxel"), [((1, 2, 3), (0.0, 0.0, 0.0), 3.0), ((2, 1, 3), (7.0, -5.0, 11.0), 1.0)]
)
def test_the_map_for_colouring_lies_where_the_map_lies(
    axes: tuple[int, int, int], origin: tuple[float, float, float], voxel: float
) -> None:
    """Sampled at places in space it has what it has at voxels, and that is not what the rim reads."""
    data = (
        blob((40, 48, 44), noise=0.02)
        if voxel == 3.0
        else np.kron(blob((20, 24, 22), 0.02), np.ones((3, 3, 3)))
    )
    volume = Volume(data.astype(np.float32), (voxel,) * 3, Frame(axes=axes, origin=origin))
    est = estimate(volume)
    painted = colouring(est)
    assert painted.data.size <= est.lowpassed.size
    points = surface(volume.data, 0.15).vertices
    # Sampled in space, as ChimeraX does.
    first = painted.position((0, 0, 0))
    steps = np.stack([painted.position(np.eye(3)[k]) - first for k in range(3)])
    index = ((volume.position(points) - first) @ np.linalg.inv(steps)).astype(np.float32)
    here = sample([painted.data], index)[0]
    there = paint(painted.data, points * np.divide(voxel, est.settings.voxel_size), (1, 1, 1))
    np.testing.assert_allclose(here, there, atol=0.02)
    # What is read on the surface itself is the rim.
    assert np.median(here) > np.median(sample([est.occupancy], points)[0]) + 0.1


def test_a_map_for_colouring_is_sampled_on_the_surface_itself(plain: Estimate) -> None:
    files = {**FILES, "occupancy": "o.mrc", "colouring": "c.map"}
    script = chimerax_script(plain, files)
    (sampling,) = commands(script, "color", "sample")
    assert sampling[2:5] == ["#1,4,5", "map", "#7"]
    assert "offset" not in sampling
    assert "map #7" in next(
        line for line in script.splitlines() if line.startswith("alias occupy_scale_range")
    )
