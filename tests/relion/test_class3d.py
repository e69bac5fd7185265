"""A small Class3D through the real RELION; needs Debian's package relion."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from occupy.io.loop import read_calls
from occupy.relion.class3d import VARIABLE, Class3D, _class3d_words
from occupy.relion.runreport import write_run_report

SOURCE = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(scope="module")
def particles(tmp_path_factory, shared_data):
    if shutil.which("relion_refine") is None or shutil.which("relion_external_reconstruct") is None:
        reason = "needs RELION (apt-get install relion)"
        if os.environ.get("OCCUPY_REQUIRE_RELION") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    project = tmp_path_factory.mktemp("project")
    for name in ("particles.mrcs", "particles.star", "consensus.mrc"):
        (project / name).symlink_to(shared_data("relion_mini") / name)
    write_program(project / "hook")
    write_program(
        project / "crashing", "import occupy.relion.classes as broken\nbroken.read_weights = None\n"
    )
    return project


def write_program(path: Path, first: str = "") -> None:
    """Write the program RELION calls; ``first`` runs before it."""
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(SOURCE)!r})\n{first}"
        "from occupy.relion.hook import main\nmain()\n"
    )
    path.chmod(0o755)


def few(project: Path, count: int) -> str:
    """Write a STAR file of the first particles; return its name."""
    lines = (project / "particles.star").read_text().splitlines()
    images = [line for line in lines if "@particles.mrcs" in line]
    left_out = set(images[count:])
    name = f"first_{count}.star"
    (project / name).write_text("\n".join(line for line in lines if line not in left_out) + "\n")
    return name


def classify(project: Path, name: str, iterations: int = 3, **variables: str) -> str:
    """Run Class3D with us in its loop; return what RELION printed."""
    (project / name).mkdir(exist_ok=True)
    job = Class3D(
        few(project, 450),
        "consensus.mrc",
        f"{name}/run",
        diameter=300,
        classes=3 if iterations > 2 else 2,
        iterations=iterations,
        threads=2,
        extra=("--random_seed", "1", "--preread_images"),
    )
    return refine(project, _class3d_words(job), variables)


def refine(project: Path, words: list[str], variables: dict[str, str]) -> str:
    environment = os.environ | {VARIABLE: str(project / "hook")} | variables
    done = subprocess.run(
        words, cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_class3d_with_us_in_its_loop(particles):
    said = classify(particles, "good")
    job = particles / "good"
    calls = read_calls(job / "occupy_relion")
    assert [c["state"] for c in calls if c["iteration"] == 1] == ["alone"] * 3
    late = [c for c in calls if c["iteration"] > 1]
    assert {c["state"] for c in late} <= {"separated", "empty"}
    assert sum(c["state"] == "separated" for c in late) >= 4
    assert max(c.get("seconds", 0) for c in calls) < 5
    assert len(re.findall("occupy: iteration 3, class", said)) == 3
    # Written by the last call of the last iteration, before RELION's own last files.
    pictured = job / "occupy_relion" / "classes.png"
    assert said.count("classes.png") == 1
    assert pictured.stat().st_size > 100
    paths, _ = write_run_report(job)
    assert all(path.stat().st_size > 100 for path in paths)


def test_a_class3d_with_a_crash_of_ours_is_plain_relions(particles):
    said = classify(particles, "crash", iterations=2, **{VARIABLE: str(particles / "crashing")})
    assert len(re.findall("not callable; RELION's own map is used", said)) == 4
    classify(particles, "off", iterations=2, OCCUPY_RELION_OFF="1")
    for k in (1, 2):
        name = f"run_it002_class{k:03d}.mrc"
        crashed, plain = (particles / folder / name for folder in ("crash", "off"))
        assert crashed.read_bytes()[1024:] == plain.read_bytes()[1024:]


def test_a_continued_class3d_goes_on_from_what_was_known(particles):
    (particles / "continued").mkdir()
    # RELION 3.1 cannot continue with --skip_align: a search as coarse as it can be.
    coarse = ("--oversampling", "0", "--healpix_order", "0", "--offset_range", "2", "--offset_step", "2")
    job = Class3D(
        few(particles, 100),
        "consensus.mrc",
        "continued/run",
        diameter=300,
        classes=2,
        iterations=2,
        threads=2,
        extra=(*coarse, "--random_seed", "1"),
    )
    words = [word for word in _class3d_words(job) if word != "--skip_align"]
    budget = {"OCCUPY_RELION_BUDGET": "1"}
    refine(particles, words, budget)
    go_on = "relion_refine --continue continued/run_it002_optimiser.star --o continued/run_ct2 --iter 3 --j 2"
    said = refine(
        particles, [*go_on.split(), "--external_reconstruct", "--dont_combine_weights_via_disc"], budget
    )
    assert len(re.findall("occupy: iteration 3, class", said)) == 2
    calls = read_calls(particles / "continued" / "occupy_relion")
    assert [call["iteration"] for call in calls] == [1, 1, 2, 2, 3, 3]
    assert [call["state"] for call in calls if call["iteration"] == 3] == ["separated"] * 2
    assert all(call["classes"] == 2 and call["own"] > 0 for call in calls if call["iteration"] == 3)
