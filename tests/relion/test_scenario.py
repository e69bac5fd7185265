"""From particles to a table, to selected particles, to a new map: the script of the manual, with RELION."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import occupy
from occupy.io.mrc import read_map
from occupy.io.star import read_star
from occupy.report.tables import read_table

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "particles_to_map.sh"
PIPELINE = "\n# version 30001\n\ndata_pipeline_general\n\n_rlnPipeLineJobCounter                       2\n\n"


def program(path: Path, module: str) -> None:
    source = Path(occupy.__file__).parents[1]
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {sys.executable} -P -m {module} "$@"\n')
    path.chmod(0o755)


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Callable[[str], Path], relion: Callable[..., Any]
) -> Path:
    """Return a folder in which the script of the manual was run, with few iterations."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("particles.star", "particles.mrcs", "consensus.mrc", "model.cif"):
        (folder / name).symlink_to(shared_data("relion_mini") / name)
    program(folder / "bin" / "occupy", "occupy")
    program(folder / "bin" / "occupy-relion-job", "occupy.relion.job")
    done = subprocess.run(
        ["bash", SCRIPT, "particles.star", "consensus.mrc", "model.cif", "L18", "0.4"],
        cwd=folder,
        env=os.environ
        | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "ITERATIONS": "2", "CLASSES": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "new map: selected.mrc" in done.stdout
    return folder


def test_the_script_of_the_manual(project: Path) -> None:
    table = read_table(project / "classes" / "occupancy.csv")
    record = json.loads((project / "selected_selection.json").read_text())
    wanted = [value >= 0.4 for value in table.of_region("L18").values()]
    assert [entry["selected"] for entry in record["classes"]] == wanted
    data = read_star(project / "Class3D/job001/run_it002_data.star")
    taken = {str(entry["class"]) for entry in record["classes"] if entry["selected"]}
    rows = [
        row
        for row in data["particles"].rows
        if row[data["particles"].columns.index("rlnClassNumber")] in taken
    ]
    selected = read_star(project / "selected.star")
    assert list(selected["particles"].rows) == rows
    assert selected["optics"].rows == data["optics"].rows
    new, consensus = (read_map(project / name).data.ravel() for name in ("selected.mrc", "consensus.mrc"))
    assert np.corrcoef(new, consensus)[0, 1] > 0.7


def test_watching_after_the_fact(project: Path) -> None:
    done = subprocess.run(
        [project / "bin" / "occupy", "watch", "Class3D/job001", "--model", "model.cif", "--every", "2",
         "--interval", "0.1"],
        cwd=project, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("iteration 2: ")
    assert (project / "occupy_watch_job001" / "history.png").exists()


def test_a_set_as_an_external_job(project: Path, relion: Callable[..., Any]) -> None:
    (project / "default_pipeline.star").write_text(PIPELINE)
    options = {
        "fn_exe": "bin/occupy-relion-job",
        "in_3dref": "Class3D/job001/run_it002_class001.mrc",
        "in_part": "Class3D/job001/run_it002_data.star",
        "param1_label": "classes",
        "param1_value": "yes",
        "param2_label": "model",
        "param2_value": "model.cif",
        "param3_label": "where",
        "param3_value": "L18 ge 0.4",
        "nr_threads": "2",
    }
    text = ";".join(f"{key} == {value}" for key, value in options.items())
    relion("relion_pipeliner", "--addJob", "External", "--addJobOptions", text, cwd=project)
    words = ["--RunJobs", "External/job002/", "--schedule", "test", "--sec_wait_after", 1]
    relion("relion_pipeliner", *words, cwd=project, timeout=300)
    job = project / "External" / "job002"
    said = (job / "run.out").read_text() + (job / "run.err").read_text()
    assert (job / "RELION_JOB_EXIT_SUCCESS").exists(), said
    assert (job / "selected.star").read_bytes() == (project / "selected.star").read_bytes()
    nodes = read_star(job / "RELION_OUTPUT_NODES.star")["output_nodes"]
    kinds = dict(zip(nodes.column("rlnPipeLineNodeName"), nodes.column("rlnPipeLineNodeType"), strict=True))
    assert kinds["External/job002/selected.star"] == "3"
    assert kinds["External/job002/logfile.pdf"] == "13"
    occupancies = [name for name in kinds if name.endswith("_occupancy.mrc")]
    assert len([name for name in occupancies if "_class00" in name]) == 2
    pipeline = read_star(project / "default_pipeline.star")
    assert pipeline["pipeline_processes"].column("rlnPipeLineProcessStatus") == ("2",)
    assert set(kinds) <= set(pipeline["pipeline_nodes"].column("rlnPipeLineNodeName"))
