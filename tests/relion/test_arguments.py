"""RELION's command line, turned into ours; and the list of a job's outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from occupy.errors import InputError
from occupy.io.star import read_star
from occupy.relion.job import _folders, _parse_job
from occupy.relion.job_files import _type_of, write_nodes

JOB = "External/job012/"


def commands(*words: str) -> list[str]:
    return [" ".join(command) for command in _parse_job(["--o", JOB, *words]).commands]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--in_3dref m.mrc --j 2", f"estimate m.mrc -o {JOB} --plot --threads 2"),
        ("--in_3dref m.mrc --exclude_solvent yes", f"estimate m.mrc -o {JOB} --exclude-solvent --plot"),
        ("--in_3dref m.mrc --exclude_solvent", f"estimate m.mrc -o {JOB} --exclude-solvent --plot"),
        ("--in_3dref m.mrc --naive no --plot no", f"estimate m.mrc -o {JOB}"),
        ("--in_3dref m.mrc --neighbours no", f"estimate m.mrc -o {JOB} --no-neighbours --plot"),
        ("--in_3dref m.mrc --find_half_maps no --plot no", f"estimate m.mrc -o {JOB} --no-neighbours"),
        (
            "--in_3dref m.mrc --model a.cif --neighbours no",
            f"regions m.mrc -o {JOB} --model a.cif --no-neighbours",
        ),
        ("--model_star r_model.star --components no", f"classes r_model.star -o {JOB} --no-components"),
        ("--model_star r_model.star --neighbours no", f"classes r_model.star -o {JOB}"),
        ("--in_3dref m.mrc --in_mask k.mrc", f"estimate m.mrc -o {JOB} --target-mask k.mrc --plot"),
        (
            "--in_3dref m.mrc --model a.cif b.cif --in_mask k.mrc",
            f"regions m.mrc -o {JOB} --model a.cif --model b.cif --masks k.mrc",
        ),
        ("--model_star r_model.star --j 8", f"classes r_model.star -o {JOB} --threads 8"),
        ("--in_3dref m.mrc --model_star r_model.star --classes no", f"classes r_model.star -o {JOB}"),
        ("--model_star r_model.star --in_mask k.mrc", f"classes r_model.star -o {JOB} --masks k.mrc"),
        # One value, whatever it holds: RELION quotes nothing, and nothing in it becomes an option of ours.
        ("--in_3dref m.mrc --amplify 3 -o /etc", f"estimate m.mrc -o {JOB} --amplify 3 -o /etc --plot"),
    ],
)
def test_command_lines(words: str, wanted: str) -> None:
    assert commands(*words.split()) == [wanted]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--in_mics m.star", "of no use"),
        ("--in_3dref m.mrc --output /etc", "not for an External job"),
        ("--in_3dref m.mrc --resume yes", "not for an External job"),
        ("", "no input"),
        ("--in_3dref -h", "not a file"),
        ("--in_3dref m.mrc --classes yes", "model_star"),
        ("--in_3dref m.mrc --classes perhaps", "yes or no"),
        ("--in_3dref m.mrc --region A --present 0.5", "model_star"),
        ("--in_3dref m.mrc --in_parts p.star", "which particles"),
    ],
)
def test_mistakes(words: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        commands(*words.split())


def test_what_is_no_option_is_left_to_the_command() -> None:
    with pytest.raises(InputError, match="what is"):
        _parse_job(["stray", "--o", JOB, "--in_3dref", "m.mrc"])
    # It knows no -o in the middle of a value, and says so itself.
    assert commands("--in_3dref", "m.mrc", "--lowpass", "-5")[0].endswith("--lowpass -5 --plot")


def test_a_value_stays_one_word() -> None:
    words = ["--o", JOB, "--in_3dref", "m.mrc", "--amplify", "3", "-o", "/etc"]
    assert _parse_job(words).commands[0].count("-o") == 1


def test_selecting_particles() -> None:
    words = "--model_star r_model.star --in_parts p.star --region A B --present 0.7 --any yes"
    assert commands(*words.split())[1] == (
        f"select {JOB} --particles p.star --region A --region B --present 0.7 --any -o {JOB}selected.star"
    )
    words = "--model_star r_model.star --in_parts p.star --where A ge 0.5 and B le 0.2"
    assert _parse_job(["--o", JOB, *words.split()]).commands[1][4:6] == ("--where", "A ge 0.5 and B le 0.2")


def test_particles_beside_the_model(tmp_path: Path) -> None:
    star = tmp_path / "run_it025_model.star"
    with pytest.raises(InputError, match="in_parts"):
        commands("--model_star", str(star), "--region", "A", "--present", "0.7")
    (tmp_path / "run_it025_data.star").touch()
    said = commands("--model_star", str(star), "--region", "A", "--present", "0.7")[1]
    assert f"--particles {tmp_path / 'run_it025_data.star'}" in said


def test_the_set_of_a_class_map(tmp_path: Path) -> None:
    star = tmp_path / "run_it025_model.star"
    star.touch()
    reference = str(tmp_path / "run_it025_class003.mrc")
    assert commands("--in_3dref", reference, "--classes", "yes") == [f"classes {star} -o {JOB}"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--o", "a/b"], ("a/b/", "a/b")),
        (["--o", "a/b/", "--pipeline_control", "c/"], ("a/b/", "c")),
        (["--x", "--o", "a"], ("a/", "a")),
        (["--o"], None),
        ([], None),
    ],
)
def test_where_a_job_is(words: list[str], wanted: tuple[str, str] | None) -> None:
    assert _folders(words) == (None if wanted is None else (wanted[0], Path(wanted[1])))


def record(folder: Path, name: str, outputs: object, **more: object) -> None:
    (folder / name).write_text(json.dumps({"outputs": outputs} | more))


def test_only_files_of_the_job_are_listed(tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    for name in ("a.mrc", "b_mask.mrc", "selected.star", "t.csv", "logfile.pdf"):
        (job / name).touch()
    (tmp_path / "outside.mrc").touch()
    record(job, "a.json", {"x": "../outside.mrc", "y": str(tmp_path / "outside.mrc"), "z": "missing.mrc"})
    record(
        job,
        "b.json",
        {"a": "a.mrc", "t": "t.csv", "p": ["selected.star"]},
        maps=[{"outputs": {"m": "b_mask.mrc"}}],
    )
    (job / "c.json").write_text("{")
    (job / "d.json").write_text("[1]")
    wanted = ["a.mrc", "selected.star", "b_mask.mrc", "logfile.pdf"]
    assert write_nodes(f"{job}/") == wanted
    nodes = read_star(job / "RELION_OUTPUT_NODES.star")["output_nodes"]
    assert nodes.column("rlnPipeLineNodeName") == tuple(f"{job}/{name}" for name in wanted)
    assert nodes.column("rlnPipeLineNodeType") == ("6", "3", "7", "13")


def test_names_with_spaces_and_large_sets(tmp_path: Path) -> None:
    names = [f"a {i}.mrc" for i in range(105)]
    for name in names:
        (tmp_path / name).touch()
    record(tmp_path, "a.json", names)
    assert len(write_nodes(f"{tmp_path}/")) == 100
    nodes = read_star(tmp_path / "RELION_OUTPUT_NODES.star")["output_nodes"]
    assert nodes.column("rlnPipeLineNodeName")[0] == f"{tmp_path}/a 0.mrc"


def test_types() -> None:
    assert _type_of("m_confidence.mrc") == _type_of("M_MASK.mrc") == (7, "Mask3D.mrc", 1)
    assert _type_of("masked_map_scale.mrc") == (6, "DensityMap.mrc", 1)
    assert _type_of("a.json") is None
