"""Several seeds and numbers of classes: one script, and one verdict."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from occupy.cli.main import run
from occupy.relion.class3d import Class3D, Experiment, _class3d_words, script
from run_files import write_star

Make = Callable[..., Any]
Capture = pytest.CaptureFixture[str]
REFINE = """#!/bin/sh
echo "$@" >> calls.txt
while [ $# -gt 1 ]; do if [ "$1" = --o ]; then out=$2; fi; shift; done
touch "${out}_it025_model.star"
"""


def stand_in(folder: Path, name: str, text: str) -> None:
    """Write a program that stands in for another."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


def test_the_script_does_every_run_once_and_reports_on_all(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    stand_in(programs, "relion_refine", REFINE)
    stand_in(programs, "occupy", '#!/bin/sh\necho "$@" > reported.txt\n')
    job = Class3D("my particles.star", "map.mrc", "Class3D/it's/run", diameter=180)
    (tmp_path / "class3d.sh").write_text(script(job, Experiment(3, "4,2"), "/opt/the hook"))
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    for _ in range(2):  # The second time nothing is left to do.
        subprocess.run(["sh", "class3d.sh"], cwd=tmp_path, env=environment, check=True)
    calls = [line.split() for line in (tmp_path / "calls.txt").read_text().splitlines()]
    asked = [(words[words.index("--K") + 1], words[words.index("--random_seed") + 1]) for words in calls]
    assert asked == [(k, seed) for k in "24" for seed in "123"]
    folders = [f"Class3D/it's_K{k}_seed{seed}" for k, seed in asked]
    assert [words[words.index("--o") + 1] for words in calls] == [f"{folder}/run" for folder in folders]
    assert (tmp_path / "reported.txt").read_text().split()[2:] == folders
    # Apart from what differs between the runs, it is the command of one job.
    plain = " ".join(_class3d_words(job)[1:]).split()
    for words in calls:
        given = words[: words.index("--random_seed")]
        for name in ("--o", "--K"):
            given[given.index(name) + 1] = plain[plain.index(name) + 1]
        assert given == plain


def test_the_command_line_prints_script_or_command(capsys: Capture) -> None:
    words = ["relion", "class3d-command", "particles.star", "map.mrc", "-K", "3"]
    assert run(words) == 0
    assert "--random_seed" not in capsys.readouterr().out
    assert run([*words, "--seeds", "3"]) == 0
    said = capsys.readouterr().out
    assert "3 seeds for K = 3: 3 jobs" in said
    assert "Class3D/occupy_K3_seed1 Class3D/occupy_K3_seed2 Class3D/occupy_K3_seed3" in said
    for ladder in ("x", "0,2", ","):
        assert run([*words, "--ladder", ladder]) == 1
        assert f"--ladder {ladder}" in capsys.readouterr().err


def job(folder: Path, one: Any, classes: int) -> str:
    """Write what the report reads of a job."""
    write_star(folder / "run_it025_data.star", one)
    (folder / "run_it025_model.star").write_text(f"data_model_general\n\n_rlnNrClasses {classes}\n")
    (folder / "occupy_relion").mkdir()
    line = '{"iteration": 25, "half": 0, "class": 1, "state": "separated", "energy": 9.0, "particles": 1.0}'
    (folder / "occupy_relion" / "calls.jsonl").write_text(line + "\n")
    return str(folder)


def test_the_report_says_which_number_of_classes_to_take(
    make_runs: Make, tmp_path: Path, capsys: Capture
) -> None:
    jobs = [
        job(tmp_path / f"K{k}_seed{i}", one, k)
        for k in (2, 3, 5)
        for i, one in enumerate(make_runs((0.5, 0.3, 0.2), 4.0, 0.1, classes=k, seed=k, free=100)[1])
    ]
    assert run(["relion", "class3d-report", *jobs, "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "take K = 3: 3 classes come back" in said
    assert (tmp_path / "out" / "report.html").is_file()
    for one in jobs:
        assert "take K = 3" in (Path(one) / "occupy_relion" / "verdict.txt").read_text()
    assert run(["relion", "class3d-report", jobs[0]]) == 0
    assert "one run does not tell" in capsys.readouterr().out
    assert run(["relion", "class3d-report", jobs[0], jobs[3]]) == 1
    assert "no two of these jobs have the same number of classes" in capsys.readouterr().err
