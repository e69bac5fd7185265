"""What packagers take: the conda recipe says what pyproject says, the release workflow needs no secret."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import occupy

HOME = Path(__file__).resolve().parents[1]
BUILD = tomllib.loads((HOME / "pyproject.toml").read_text())["build-system"]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"matplotlib": "matplotlib-base"}


def recipe():
    return yaml.safe_load((HOME / "conda-recipe" / "recipe.yaml").read_text())


def conda(requirement):
    """Return a requirement of pip as conda writes it: name in small letters, space, versions."""
    name, versions = re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()
    return f"{CONDA_NAMES.get(name.lower(), name.lower())} {versions}".strip()


def test_the_recipe_wants_what_pip_wants():
    python, wanted = f"python {PROJECT['requires-python']}", recipe()["requirements"]
    assert sorted(wanted["run"]) == sorted([python, *map(conda, PROJECT["dependencies"])])
    assert sorted(wanted["host"]) == sorted([python, "pip", *map(conda, BUILD["requires"])])


def test_the_recipe_makes_the_programs_that_pip_makes():
    made = recipe()["build"]["python"]["entry_points"]
    assert dict(line.split(" = ") for line in made) == PROJECT["scripts"]
    assert recipe()["about"]["license"] == PROJECT["license"]
    assert f'default="{occupy.__version__}"' in recipe()["context"]["version"]
    assert (HOME / recipe()["about"]["license_file"]).is_file()


@pytest.mark.parametrize("path", sorted((HOME / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.name)
def test_workflows_parse_use_no_secret_and_name_versions(path):
    text = path.read_text()
    assert "secrets." not in text
    for job in yaml.safe_load(text)["jobs"].values():
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert "@" in step.get("uses", "@")


def test_only_what_was_built_and_tried_is_published():
    jobs = yaml.safe_load((HOME / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert set(jobs["publish"]["needs"]) == {"build", "try"}
    assert jobs["publish"]["if"] == "startsWith(github.ref, 'refs/tags/')"
    # No token is stored: the service that runs this says who it is.
    assert jobs["publish"]["permissions"]["id-token"] == "write"
    # What conda tests of a package is what is tried of the wheel.
    (script,) = [test["script"] for test in recipe()["tests"] if "script" in test]
    assert set(script[1:]) <= set(jobs["try"]["steps"][-1]["run"].split(" && "))
