"""Settings on their way between form, Python and shell."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from occupy.cli.main import _with_command
from occupy.errors import InputError
from occupy.inputs import InputFiles
from occupy.settings import Settings
from occupy.web.forms import command_line, input_words, schema, settings_from

SOME: dict[str, Any] = {
    "mode": "resolution",
    "estimator": "nlf",
    "resolution": 9.5,
    "lowpass": 12.0,
    "kernel_size": 5,
    "kernel_radius": 2.5,
    "tau": 0.9,
    "tile_size": "40A",
    "naive": True,
    "recalibrate": True,
    "max_box": 128,
    "hedge": 1.5,
    "fdr": 0.05,
    "bfactor": True,
    "exclude_solvent": True,
    "use_confidence": False,
    "amplify": 3.0,
    "attenuate": 2.0,
    "sigmoid": 4.0,
    "pivot": 0.3,
    "scale_limit": 0.1,
    "lowpass_output": 6.0,
    "match_histogram": True,
    "seed": 7,
    "threads": 2,
}


def test_every_setting_is_in_the_form_and_in_this_test() -> None:
    names = {f.name for f in fields(Settings)}
    assert {field["name"] for field in schema()} == names == set(SOME)


@given(st.sets(st.sampled_from(sorted(SOME))))
def test_the_command_line_means_the_same_settings(names: set[str]) -> None:
    import typer

    from occupy.cli import app as commands

    if "bfactor" in names:  # the calibrated estimator's, and for low-passed maps only
        names = names - {"estimator", "mode", "naive", "recalibrate", "tau", "tile_size"}
    settings = settings_from({name: SOME[name] for name in names})
    words = _with_command(shlex.split(command_line("map.mrc", settings))[1:])
    seen: list[Settings] = []
    app = typer.Typer()

    from occupy.cli.options import _takes_options

    @app.command()
    @_takes_options()
    def estimate(path: str, settings: Settings) -> None:
        seen.append(settings)

    assert words[0] == "estimate"
    app(words[1:], standalone_mode=False)
    assert seen == [settings]
    assert commands.app is not None


def test_whole_numbers_and_fractions_are_interchangeable_where_they_are_equal() -> None:
    assert settings_from({"lowpass": 8, "kernel_size": 5.0}) == Settings(lowpass=8.0, kernel_size=5)
    assert settings_from({"amplify": None}) == Settings()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kernel_size": 5.5}, "kernel size must be a number"),
        ({"naive": 1}, "naive must be yes or no"),
        ({"mode": 3}, "mode must be text"),
        ({"mode": "other"}, "mode must be one of"),
        ({"lowpass": True}, "lowpass must be a number"),
        ({"tile_size": "40 miles"}, "tile size"),
        ({"nonsense": 1}, "no setting 'nonsense'"),
        ("text", "names with values"),
        ([], "names with values"),
    ],
)
def test_wrong_values_are_named(said: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings_from(said)


@given(st.floats(1, 1e6), st.floats(0.1, 20))
def test_numbers_in_a_command_line_are_read_back_as_they_were(lowpass: float, voxel: float) -> None:
    words = input_words(InputFiles(Path("m.mrc"), voxel_size=voxel, neighbours=False), Settings())
    assert words[0] == "--voxel-size"
    assert float(words[1]) == voxel
    told = shlex.split(command_line("m.mrc", Settings(lowpass=lowpass), words))
    assert float(told[told.index("--lowpass") + 1]) == lowpass
