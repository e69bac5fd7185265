"""A Scipion project with OccuPy's protocols, run without a window.

SCIPION_HOME and SCIPION_USER_DATA must be folders of the test's own, since Scipion reads them when it is
imported; OCCUPY_PROGRAM names the program `occupy`.
"""

import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pwem
import pytest
import pyworkflow
from pwem.protocols import ProtImportPdb, ProtImportVolumes
from pyworkflow.project import Manager


class Brought(NamedTuple):
    """A project, and what was brought into it."""

    project: Any
    volume: Any
    classes: Any
    structure: Any


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """Return a project, and the demo's map, classes and model as its objects."""
    data = tmp_path_factory.mktemp("data")
    program = os.environ["OCCUPY_PROGRAM"]
    subprocess.run([program, "demo", "--quiet", "-o", data], check=True)
    words = [
        "simulate",
        "demo",
        "--classes",
        "3",
        "--blocks",
        "2",
        "--no-half-maps",
        "--quiet",
        "-o",
        data / "made",
    ]
    subprocess.run([program, *words], check=True)
    for path in (data / "made").glob("*class*.mrc"):
        path.rename(data / path.name)
    # One host that runs every command as it is.
    hosts = Path(os.environ["SCIPION_HOME"]) / "config" / "hosts.conf"
    hosts.parent.mkdir(parents=True, exist_ok=True)
    hosts.write_text("[localhost]\nPARALLEL_COMMAND = %(COMMAND)s\nNAME =\n")
    pyworkflow.Config.setDomain(pwem)
    project = Manager().createProject("occupy")
    os.chdir(project.path)
    where = {"filesPath": str(data), "samplingRate": 3.0}
    volume = launch(project, project.newProtocol(ProtImportVolumes, filesPattern="demo.mrc", **where))
    classes = launch(project, project.newProtocol(ProtImportVolumes, filesPattern="*class00?.mrc", **where))
    model = ProtImportPdb.IMPORT_FROM_FILES
    path = str(data / "demo_model.cif")
    structure = launch(project, project.newProtocol(ProtImportPdb, inputPdbData=model, pdbFile=path))
    return Brought(project, volume.outputVolume, classes.outputVolumes, structure.outputPdb)


def launch(project, protocol):
    project.launchProtocol(protocol, wait=True)
    assert protocol.isFinished(), protocol.getErrorMessage()
    return protocol


def run(project, name, **inputs):
    kind = pwem.Domain.importFromPlugin("scipion_occupy.protocols", name)
    return launch(project, project.newProtocol(kind, **inputs))


def test_the_plugin_and_its_protocols_are_found():
    assert "scipion_occupy" in pwem.Domain.getPlugins()
    names = pwem.Domain.getProtocols()
    assert {"OccupyProtScale", "OccupyProtRegions", "OccupyProtClasses"} <= set(names)


def test_scale_of_a_volume(brought):
    protocol = run(brought.project, "OccupyProtScale", inputVolume=brought.volume, amplify=3.0)
    assert protocol.outputScale.getSamplingRate() == 3.0
    assert Path(protocol.outputScale.getFileName()).is_file()
    assert protocol.outputScale.getDim() == (64, 64, 64)
    assert protocol.outputAmplified.getFileName().endswith("_amplified.mrc")
    assert protocol.report().is_file()


def test_parts_of_a_structure(brought):
    protocol = run(
        brought.project, "OccupyProtRegions", inputVolume=brought.volume, inputStructure=brought.structure
    )
    assert Path(protocol.outputStructure.getFileName()).stat().st_size > 1000


def test_classes_of_a_set(brought):
    protocol = run(brought.project, "OccupyProtClasses", inputVolumes=brought.classes)
    assert protocol.outputOccupancies.getSize() == 3


def test_a_program_that_is_missing_is_said_before_anything_runs(brought, monkeypatch):
    plugin = pwem.Domain.getPlugin("scipion_occupy").Plugin
    monkeypatch.setattr(plugin, "program", staticmethod(lambda: "/nowhere/occupy"))
    kind = pwem.Domain.importFromPlugin("scipion_occupy.protocols", "OccupyProtScale")
    said = brought.project.newProtocol(kind, inputVolume=brought.volume).validate()
    assert any("/nowhere/occupy" in line for line in said)
