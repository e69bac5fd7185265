"""Star files of Class3D as RELION 3.1, 4 and 5 document them: compared, selected from, images read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from occupy.io.mrc import write_map
from occupy.io.particle_images import read_particle_images
from occupy.io.particles import read_particles
from occupy.io.runs import CommonParticles, Run
from occupy.io.star import read_star
from occupy.volume import Volume

OPTICS = {
    "rlnOpticsGroupName": "opticsGroup1", "rlnOpticsGroup": 1, "rlnMtfFileName": "mtf_k3.star",
    "rlnMicrographOriginalPixelSize": 0.885, "rlnVoltage": 300, "rlnSphericalAberration": 1.4,
    "rlnAmplitudeContrast": 0.1, "rlnImagePixelSize": 2.5, "rlnImageSize": 8, "rlnImageDimensionality": 2,
    "rlnCtfDataAreCtfPremultiplied": 0,
}  # fmt: skip
PARTICLE = {
    "rlnCoordinateX": 614.5, "rlnCoordinateY": 44.0, "rlnAutopickFigureOfMerit": 0.2, "rlnClassNumber": 1,
    "rlnAnglePsi": 30.0, "rlnImageName": "", "rlnMicrographName": "a.mrc", "rlnOpticsGroup": 1,
    "rlnCtfMaxResolution": 4.8, "rlnCtfFigureOfMerit": 0.13, "rlnDefocusU": 12000.0, "rlnDefocusV": 11000.0,
    "rlnDefocusAngle": 45.0, "rlnCtfBfactor": 0.0, "rlnCtfScalefactor": 1.0, "rlnPhaseShift": 0.0,
    "rlnAngleRot": 10.0, "rlnAngleTilt": 20.0, "rlnOriginXAngst": 1.5, "rlnOriginYAngst": -2.5,
    "rlnNormCorrection": 0.7, "rlnRandomSubset": 1, "rlnLogLikeliContribution": 3.6e5,
    "rlnMaxValueProbDistribution": 0.9, "rlnNrOfSignificantSamples": 12, "rlnGroupNumber": 1,
}  # fmt: skip
LABELS = (1, 3, 1, 2)
# The version of the format, and more columns.
DIALECTS = {
    "3.1": ("30001", {}),
    "4": ("30001", {"rlnGroupName": "group_01"}),
    "5": ("50001", {"rlnHelicalTubeID": 1, "rlnImageId": 4}),
}


def loop(name: str, rows: list[dict[str, object]], version: str) -> str:
    labels = "".join(f"_{label} #{i} \n" for i, label in enumerate(rows[0], start=1))
    lines = "".join("".join(f"{value!s:>12} " for value in row.values()) + "\n" for row in rows)
    return f"\n# version {version}\n\ndata_{name}\n\nloop_ \n{labels}{lines} \n"


def put_job(folder: Path, dialect: str, labels: tuple[int, ...] = LABELS) -> Path:
    """Write the last data.star of a Class3D job in a project, with its stack."""
    version, more = DIALECTS[dialect]
    job = folder / "Class3D" / "job007"
    job.mkdir(parents=True)
    stack = folder / "Extract" / "job003" / "a.mrcs"
    stack.parent.mkdir(parents=True, exist_ok=True)
    images = np.arange(len(labels) * 64, dtype=np.float32).reshape(-1, 8, 8)
    write_map(stack.with_suffix(".mrc"), Volume.from_array(images, 2.5))
    stack.with_suffix(".mrc").rename(stack)
    rows = [
        PARTICLE | {"rlnImageName": f"{i:06d}@Extract/job003/a.mrcs", "rlnClassNumber": label} | more
        for i, label in enumerate(labels, start=1)
    ]
    path = job / "run_it025_data.star"
    path.write_text(loop("optics", [OPTICS], version) + "\n" + loop("particles", rows, version))
    return path


@pytest.mark.parametrize("dialect", DIALECTS)
def test_images_poses_and_optics_are_read(tmp_path: Path, dialect: str) -> None:
    images, notices = read_particle_images(put_job(tmp_path, dialect))
    assert (len(images), images.size, images.pixel_size, notices) == (4, 8, 2.5, ())
    assert images.shifts.tolist() == [[1.5, -2.5]] * 4
    assert images.ctf.defocus_u.tolist() == [12000] * 4
    assert images.source.read(np.arange(4))[:, 0, 0].tolist() == [0.0, 64.0, 128.0, 192.0]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_selected_rows_are_the_files_own(tmp_path: Path, dialect: str) -> None:
    path = put_job(tmp_path, dialect)
    particles = read_particles(path)
    assert particles.labels.tolist() == list(LABELS)
    particles.write(particles.labels == 1, tmp_path / "out.star")
    before, after = path.read_text().splitlines(), (tmp_path / "out.star").read_text().splitlines()
    left_out = [line for line in before if "000002@" in line or "000004@" in line]
    assert after == [line for line in before if line not in left_out]
    assert read_star(tmp_path / "out.star")["optics"].column("rlnMtfFileName") == ("mtf_k3.star",)


@pytest.mark.parametrize("other", DIALECTS)
def test_runs_of_any_version_are_compared_by_the_names_of_images(tmp_path: Path, other: str) -> None:
    one = Run.read(put_job(tmp_path / "a", "3.1"))
    # Another version's job, found in its folder; RELION sorts its files by micrograph, so order is none.
    path = put_job(tmp_path / "b", other, LABELS[:3])
    both = CommonParticles.of([one, Run.read(path.parent)])
    assert one.named_by == "name"
    assert [rows.tolist() for rows in both.rows] == [[0, 1, 2], [0, 1, 2]]
    assert [notice.code for notice in both.notices] == ["particles-left-out"]
    assert both.runs[1].certainty is not None
