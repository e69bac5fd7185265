"""Projects of CCP-EM's pipeliner, run for real: forms, commands, nodes, and one job feeding the next."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

if os.environ.get("OCCUPY_REQUIRE_CCPEM") != "1":
    pytest.importorskip("pipeliner", reason="needs the extra ccpem: pip install 'occupy-em[ccpem]'")

from pipeliner.api.manage_project import PipelinerProject
from pipeliner.job_factory import new_job_of_type

from occupy.io.models import read_model
from occupy.io.mrc import read_map
from occupy.io.star import read_star

JOBS = ("local_scale", "modify", "regions", "classes", "particles", "select", "compare_runs")


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


def test_these_are_the_job_types() -> None:
    found = {each.name for each in entry_points(group="ccpem_pipeliner.jobs") if "occupy" in each.value}
    assert found == {f"occupy.{name}" for name in JOBS}


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
    job = new_job_of_type("occupy.compare_runs")
    job.joboptions["runs"].value = "Class3D/job001/run_it025_data.star"
    job.joboptions["probability"].value = "1.5"
    said = [result.message for result in job.validate_joboptions() if result.type == "error"]
    assert any("two runs or more" in message for message in said)
    assert len(said) == 2


@pytest.fixture(scope="module")
def scale(project: Any) -> Any:
    """Return the job that estimated the demo's local scale."""
    return run(project, "occupy.local_scale", input_map="demo/demo.mrc", amplify=3)


def test_a_map_its_scale_and_its_modification(project: Any, scale: Any) -> None:
    types = node_types(scale)
    assert types["demo_scale.mrc"] == "DensityMap.mrc.occupy.scale"
    assert types["demo_amplified.mrc"] == "DensityMap.mrc.occupy.amplified"
    kinds = [type(shown).__name__ for shown in scale.create_results_display()]
    assert kinds == ["ResultsDisplayImage", "ResultsDisplayImage", "ResultsDisplayMapModel"]
    modified = run(project, "occupy.modify", input_map=f"{scale.output_dir}demo_scale.mrc", attenuate=4)
    assert node_types(modified) == {"demo_attenuated.mrc": "DensityMap.mrc.occupy.modified"}
    assert [node.name for node in modified.input_nodes] == [f"{scale.output_dir}demo_scale.mrc"]


def test_the_parts_of_a_model_are_shown_as_a_table(project: Any, scale: Any) -> None:
    job = run(project, "occupy.regions", input_map="demo/demo.mrc", model="demo/demo_model.cif")
    table = job.create_results_display()[0]
    with (Path(job.output_dir) / "demo_regions.tsv").open() as file:
        rows = list(csv.reader((line for line in file if not line.startswith("#")), delimiter="\t"))
    assert table.headers == rows[0]
    assert table.table_data == rows[1:]
    assert node_types(job)["demo_regions.tsv"] == "ProcessData.tsv.occupy.occupancies"
    # Fed with the scale that another job made of that map, it finds the same.
    name = f"{scale.output_dir}demo_scale.mrc"
    again = run(project, "occupy.regions", input_map=name, model="demo/demo_model.cif")
    assert again.create_results_display()[0].table_data == rows[1:]
    assert name in {node.name for node in again.input_nodes}


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
    first, second = (
        run(
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
            other_args=f"--random_seed {seed}",
        )
        for seed in (1, 2)
    )
    optimiser = next(node.name for node in first.output_nodes if node.name.endswith("_optimiser.star"))
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
    runs = [f"{each.output_dir}run_it003_data.star" for each in (first, second)]
    compared = run(project, "occupy.compare_runs", runs=":::".join(runs))
    assert {node.name for node in compared.input_nodes} == set(runs)
    types = node_types(compared)
    assert types["agreement.tsv"] == "ProcessData.tsv.occupy.agreement"
    shown = compared.create_results_display()
    assert [type(each).__name__ for each in shown] == ["ResultsDisplayTable"] * 2 + ["ResultsDisplayImage"]
    assert len(shown[1].table_data) == 1


def read_node(name: str, kind: str) -> None:
    """Read the file of a node as what its type says it is."""
    if kind.startswith("DensityMap."):
        assert read_map(Path(name)).data.any()
    elif kind.startswith("ParticleGroupMetadata"):
        assert any(table.has("rlnImageName") for table in read_star(Path(name)).values())
    elif kind.startswith("AtomCoords"):
        assert len(read_model([Path(name)]).xyz)
    elif name.endswith(".star"):
        assert read_star(Path(name))
    elif kind.startswith("ProcessData.tsv"):
        lines = [line for line in Path(name).read_text().splitlines() if not line.startswith("#")]
        assert len({line.count("\t") for line in lines}) == 1
    else:
        assert Path(name).stat().st_size


def pairs(table: str, *columns: str) -> list[tuple[str, ...]]:
    """Return two columns of the project's own file."""
    found = read_star(Path("default_pipeline.star"))[f"pipeline_{table}"]
    return list(zip(*(found.column(f"rlnPipeLine{column}") for column in columns), strict=True))


def test_the_graph_and_every_node_read_back(project: Any) -> None:
    """Read what the jobs above left in the project's own file, and every node's file."""
    kinds = dict(pairs("nodes", "NodeName", "NodeTypeLabel"))
    jobs = dict(pairs("processes", "ProcessName", "ProcessTypeLabel"))
    into = pairs("input_edges", "EdgeFromNode", "EdgeProcess")
    out = dict(pairs("output_edges", "EdgeToNode", "EdgeProcess"))
    failed = {name for name in jobs if (Path(name) / "PIPELINER_JOB_EXIT_FAILED").exists()}
    feeds = {(jobs[out[node]], jobs[job]) for node, job in into if node in out}
    assert {
        ("occupy.local_scale", "occupy.modify"),
        ("occupy.local_scale", "occupy.regions"),
        ("relion.class3d", "occupy.classes"),
        ("relion.class3d", "occupy.select"),
        ("occupy.classes", "occupy.select"),
        ("relion.class3d", "occupy.compare_runs"),
    } <= feeds
    assert set(kinds) >= set(out) | {node for node, _ in into}
    for name, kind in kinds.items():
        if out.get(name) not in failed and name != "broken.mrc":
            read_node(name, kind)
