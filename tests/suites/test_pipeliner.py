"""Projects of CCP-EM's pipeliner, run for real: forms, commands, nodes, and one job feeding the next."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if os.environ.get("OCCUPY_REQUIRE_CCPEM") != "1":
    pytest.importorskip("pipeliner", reason="needs the extra ccpem: pip install 'occupy-em[ccpem]'")

from pipeliner.api.manage_project import PipelinerProject
from pipeliner.job_factory import new_job_of_type

JOBS = ("local_scale", "modify", "regions", "classes", "particles", "select")


def run(project: PipelinerProject, kind: str, **fields: object) -> Any:
    """Run a job to its end and return it as the project then knows it."""
    job = project.run_job({"_rlnJobTypeLabel": kind, **fields}, run_in_foreground=True)
    folder = Path(job.output_dir)
    log = (folder / "run.out").read_text() + (folder / "run.err").read_text()
    assert (folder / "PIPELINER_JOB_EXIT_SUCCESS").exists(), log
    return project.get_job(job.output_dir)


def node_types(job: Any) -> dict[str, str]:
    """Return type by file name of the nodes a job made."""
    return {Path(node.name).name: node.type for node in job.output_nodes}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a new project with the bundled demo's map and model, and work in its folder."""
    folder = tmp_path_factory.mktemp("project")
    occupy = Path(sys.executable).with_name("occupy")
    subprocess.run([occupy, "demo", "--quiet", "-o", "demo"], cwd=folder, check=True, timeout=300)
    before, path = Path.cwd(), os.environ["PATH"]
    os.chdir(folder)
    os.environ["PATH"] = f"{occupy.parent}{os.pathsep}{path}"
    yield PipelinerProject(make_new_project=True)
    os.chdir(before)
    os.environ["PATH"] = path


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_found_by_its_entry_point_and_cites_the_method(name: str) -> None:
    job = new_job_of_type(f"occupy.{name}")
    assert job.jobinfo.references[0].doi == "10.1038/s41467-023-41478-1"
    assert job.jobinfo.programs[0].command == "occupy"
    assert all(option.label for option in job.joboptions.values())


def test_an_empty_form_is_refused_field_by_field() -> None:
    job = new_job_of_type("occupy.select")
    said = [result.message for result in job.validate_joboptions() if result.type == "error"]
    assert any("present and absent" in message for message in said)
    # Table, particles and part have no default.
    assert len(said) >= 4


def test_a_map_its_scale_and_its_modification(project: Any) -> None:
    scale = run(project, "occupy.local_scale", input_map="demo/demo.mrc", amplify=3)
    types = node_types(scale)
    assert types["demo_scale.mrc"] == "DensityMap.mrc.occupy.scale"
    assert types["demo_amplified.mrc"] == "DensityMap.mrc.occupy.amplified"
    kinds = [type(shown).__name__ for shown in scale.create_results_display()]
    assert kinds == ["ResultsDisplayImage", "ResultsDisplayImage", "ResultsDisplayMapModel"]
    modified = run(project, "occupy.modify", input_map=f"{scale.output_dir}demo_scale.mrc", attenuate=4)
    assert node_types(modified) == {"demo_attenuated.mrc": "DensityMap.mrc.occupy.modified"}
    assert [node.name for node in modified.input_nodes] == [f"{scale.output_dir}demo_scale.mrc"]


def test_the_parts_of_a_model_are_shown_as_a_table(project: Any) -> None:
    job = run(project, "occupy.regions", input_map="demo/demo.mrc", model="demo/demo_model.cif")
    table = job.create_results_display()[0]
    with (Path(job.output_dir) / "demo_regions.tsv").open() as file:
        rows = list(csv.reader((line for line in file if not line.startswith("#")), delimiter="\t"))
    assert table.headers == rows[0]
    assert table.table_data == rows[1:]
    assert node_types(job)["demo_regions.tsv"] == "ProcessData.tsv.occupy.occupancies"


def test_a_job_that_fails_says_why_and_makes_no_node(project: Any) -> None:
    Path("broken.mrc").write_bytes(b"no map")
    job = project.run_job(
        {"_rlnJobTypeLabel": "occupy.local_scale", "input_map": "broken.mrc"}, run_in_foreground=True
    )
    folder = Path(job.output_dir)
    assert (folder / "PIPELINER_JOB_EXIT_FAILED").exists()
    assert "broken.mrc" in (folder / "run.err").read_text() + (folder / "run.out").read_text()
    assert not list(folder.glob("*.mrc"))


def test_class3d_to_classes_to_selected_particles(
    project: Any, shared_data: Callable[[str], Path], relion: Callable[..., Any]
) -> None:
    data = shared_data("relion_mini")
    for name in ("particles.star", "particles.mrcs", "consensus.mrc", "model.cif"):
        Path(name).symlink_to(data / name)
    class3d = run(
        project,
        "relion.class3d",
        fn_img="particles.star",
        fn_ref="consensus.mrc",
        nr_classes=3,
        nr_iter=3,
        ini_high=20,
        dont_skip_align="No",
        particle_diameter=300,
        do_preread_images="Yes",
    )
    optimiser = next(node.name for node in class3d.output_nodes if node.name.endswith("_optimiser.star"))
    classes = run(project, "occupy.classes", optimiser=optimiser, model="model.cif")
    table = classes.create_results_display()[0]
    assert len(table.headers) > 3
    part = table.table_data[0][0]
    selected = run(
        project,
        "occupy.select",
        occupancies=f"{classes.output_dir}occupancy.tsv",
        particles=optimiser.replace("_optimiser", "_data"),
        region=part,
        present=0.1,
    )
    assert node_types(selected) == {"particles.star": "ParticleGroupMetadata.star.relion"}
    feeding = {node.name for node in selected.input_nodes}
    assert f"{classes.output_dir}occupancy.tsv" in feeding
    # The new file is a particle file that the suite itself reads, as the input of its own jobs.
    job = new_job_of_type("relion.class3d")
    job.joboptions["fn_img"].value = f"{selected.output_dir}particles.star"
    assert not [
        said for said in job.validate_input_files() if said.type == "error" and "fn_img" in said.message
    ]
