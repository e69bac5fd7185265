"""Particles at known poses: what is read, and one clear line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occupy.errors import InputError
from occupy.io.mrc import write_map
from occupy.io.particle_images import read_particle_images
from occupy.io.particles import read_presence, write_chosen
from occupy.particles.slices import rotations
from occupy.volume import Volume

OPTICS = (
    "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnVoltage #2\n_rlnSphericalAberration #3\n"
    "_rlnAmplitudeContrast #4\n_rlnImagePixelSize #5\n_rlnImageSize #6\n7 300 2.7 0.1 2.5 8\n\n"
)
LABELS = ("rlnImageName", "rlnOpticsGroup", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst",
          "rlnOriginYAngst", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")  # fmt: skip
ROW = "{i}@stack.mrcs 7 10 20 30 1.5 -2.5 12000 11000 45"


def write_star(folder: Path, rows: list[str], labels: tuple[str, ...] = LABELS) -> Path:
    stack = np.arange(4 * 64, dtype=np.float32).reshape(4, 8, 8)
    if not (folder / "stack.mrcs").exists():
        write_map(folder / "stack.mrc", Volume.from_array(stack, 2.5))
        (folder / "stack.mrc").rename(folder / "stack.mrcs")
    head = "".join(f"_{label} #{i + 1}\n" for i, label in enumerate(labels))
    path = folder / "particles.star"
    path.write_text(OPTICS + "data_particles\n\nloop_\n" + head + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_relions_star(tmp_path: Path) -> None:
    job = tmp_path / "Refine3D" / "job001"
    job.mkdir(parents=True)
    # Stacks are named from the project's folder.
    path = write_star(tmp_path, [ROW.format(i=i) for i in (3, 1)]).rename(job / "run_data.star")
    images, notices = read_particle_images(path)
    assert (len(images), images.size, images.pixel_size, images.groups) == (2, 8, 2.5, 1)
    assert images.source.read(np.array([0, 1]))[:, 0, 0].tolist() == [128.0, 0.0]
    assert images.shifts[0].tolist() == [1.5, -2.5]
    np.testing.assert_allclose(images.matrices[0], rotations(np.array([[10.0, 20.0, 30.0]]))[0])
    assert images.ctf.defocus_u[0] == 12000
    assert notices == ()


def test_aberrations_that_are_not_applied_are_said(tmp_path: Path) -> None:
    path = write_star(tmp_path, [ROW.format(i=1) + " 0.4"], (*LABELS, "rlnBeamTiltX"))
    assert "rlnBeamTiltX" in read_particle_images(path)[1][0].text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("9@stack.mrcs 7 10 20 30 1.5 -2.5 12000 11000 45", "names number 9"),
        ("1@other.mrcs 7 10 20 30 1.5 -2.5 12000 11000 45", "neither in its folder"),
        ("stack.mrcs 7 10 20 30 1.5 -2.5 12000 11000 45", "number@stack"),
        ("1@stack.mrcs 8 10 20 30 1.5 -2.5 12000 11000 45", "optics group 8"),
        ("1@stack.mrcs 7 nan 20 30 1.5 -2.5 12000 11000 45", "rlnAngleRot"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_particle_images(write_star(tmp_path, [row]))


def test_missing_columns_are_named(tmp_path: Path) -> None:
    row = " ".join(ROW.format(i=1).split()[:-3])
    with pytest.raises(InputError, match="rlnDefocusU"):
        read_particle_images(write_star(tmp_path, [row], LABELS[:-3]))


def cryosparc(folder: Path, rotation_vector: tuple[float, float, float]) -> tuple[Path, Path]:
    write_star(folder, [ROW.format(i=1)])
    names = [("uid", "u8"), ("blob/path", "S20"), ("blob/idx", "u4"), ("blob/shape", "u4", (2,)),
             ("blob/psize_A", "f4"), ("alignments3D/pose", "f4", (3,)), ("alignments3D/shift", "f4", (2,)),
             ("alignments3D/psize_A", "f4")]  # fmt: skip
    table = np.zeros(2, dtype=names)
    table["uid"], table["blob/path"], table["blob/idx"] = [5, 9], b">stack.mrcs", [1, 3]
    table["blob/shape"], table["blob/psize_A"], table["alignments3D/psize_A"] = 8, 2.5, 2.5
    table["alignments3D/pose"], table["alignments3D/shift"] = rotation_vector, [0.6, -1.0]
    optics = ("df1_A", "df2_A", "df_angle_rad", "accel_kv", "cs_mm", "amp_contrast", "phase_shift_rad")
    other = np.zeros(3, dtype=[("uid", "u8"), *((f"ctf/{name}", "f4") for name in optics)])
    other["uid"], other["ctf/df1_A"] = [9, 7, 5], [900, 700, 500]
    paths = folder / "particles.cs", folder / "passthrough.cs"
    for path, content in zip(paths, (table, other), strict=True):
        with path.open("wb") as out:
            np.lib.format.write_array(out, content)
    return paths


def test_cryosparcs_tables_are_joined_by_uid(tmp_path: Path) -> None:
    particles, passthrough = cryosparc(tmp_path, (0.0, 0.0, np.pi / 2))
    images, _ = read_particle_images(particles, [passthrough])
    assert images.ctf.defocus_u.tolist() == [500, 900]
    np.testing.assert_allclose(images.shifts[0], [1.5, -2.5], rtol=1e-6)
    # A pose turns the image's x axis into the volume's y; so the volume's y is the image's x.
    np.testing.assert_allclose(images.matrices[0] @ [0, 1, 0], [1, 0, 0], atol=1e-6)
    with pytest.raises(InputError, match="--passthrough"):
        read_particle_images(particles)


def test_particles_chosen_by_presence(tmp_path: Path) -> None:
    path = write_star(tmp_path, [ROW.format(i=i) for i in (1, 2, 3)])
    table = tmp_path / "presence.tsv"
    table.write_text("particle\tstate\tstate_probability\tA\n1\t1\t1\t.2\n2\t1\t1\t.95\n3\t2\t1\t.4\n")
    names, presence = read_presence(table)
    assert names == ("A",)
    write_chosen(path, presence[:, 0] > 0.9, tmp_path / "chosen.star")
    text = (tmp_path / "chosen.star").read_text()
    assert "2@stack.mrcs" in text
    assert "1@stack.mrcs" not in text
    with pytest.raises(InputError, match="3 particles, but"):
        write_chosen(path, np.array([True]), tmp_path / "chosen.star")
    table.write_text("particle\tstate\n")
    with pytest.raises(InputError, match="not a table of presence"):
        read_presence(table)
