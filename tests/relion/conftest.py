"""A job of RELION in which the program for the reconstruction is a stand-in."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Return a folder in which RELION's program is one that does nothing: maps are made by the test."""
    fake = tmp_path / "fake_relion"
    fake.write_text(f"#!{sys.executable}\nimport sys\nsys.exit(3 if 'fail' in sys.argv[1] else 0)\n")
    fake.chmod(0o755)
    monkeypatch.setenv("OCCUPY_RELION_EXECUTABLE", str(fake))
    folder = tmp_path / "job"
    folder.mkdir()
    model = "data_model_general\n\n_rlnPixelSize 8.0\n_rlnNrClasses 2\n\n"
    model += "data_model_groups\n\nloop_\n_rlnGroupNumber\n_rlnGroupNrParticles\n1 900\n2 1100\n"
    (folder / "run_it000_model.star").write_text(model)
    (folder / "run_it000_optimiser.star").write_text(
        "data_optimiser_general\n\n_rlnParticleDiameter 200\n_rlnNumberOfIterations 25\n"
    )
    return folder
