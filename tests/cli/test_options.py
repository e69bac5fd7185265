"""Commands made from dataclasses: every field once, as the command line, the help and the record say it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import typer

from occupy import requests, settings
from occupy.cli.app import app_for
from occupy.cli.classes import _matrix
from occupy.cli.main import _with_lists, run
from occupy.cli.options import command, with_options
from occupy.errors import InputError
from occupy.regions.table import OccupancyTable
from occupy.report.tables import cell_text
from occupy.requests import RegionRequest
from occupy.settings import as_written, flags_of, names_of, option


@dataclass(frozen=True)
class Cake:
    """One field of every kind."""

    size: int = option(..., "How many eat.", argument=True, metavar="SIZE")
    layers: int = option(2, "Layers.", unit="cm", min=1, max=9)
    icing: bool = option(True, "Ice it.", "Decoration")
    candles: bool = option(False, "Light candles.", "Decoration")
    fillings: tuple[str, ...] = option((), "Between layers; may be repeated.", flags=("-f", "--filling"))
    between: tuple[float, float] | None = option(None, "Hours.", metavar="FROM TO")
    recipe: Path | None = option(None, "Where it is written.")
    secret: str = option("none", "Not for everyone.")

    def __post_init__(self) -> None:
        if self.layers == 7:
            raise ValueError("layers must not be 7")


@pytest.fixture
def bake():
    """Return what runs a command line and gives back what the command was handed."""
    app = typer.Typer(rich_markup_mode=None)
    seen: list[Any] = []

    @command("bake", app, without={"secret"})
    def _bake(cake: Cake, where: Annotated[str, typer.Option("--where")] = "home") -> None:
        """Bake."""
        seen.append((cake, where))

    def run(*words: object) -> Any:
        with_options(app)(args=list(map(str, words)), standalone_mode=False)
        return seen[-1]

    return run


def test_without_options_every_field_has_its_default(bake):
    assert bake(4) == (Cake(4), "home")


def test_every_kind_of_field_is_read(bake):
    words = (
        "6 --layers 3 --no-icing --candles -f jam --filling cream --between 1 2.5 --recipe a.txt --where x"
    )
    cake, where = bake(*words.split())
    assert cake == Cake(6, 3, False, True, ("jam", "cream"), (1.0, 2.5), Path("a.txt"))
    assert where == "x"


def test_what_is_left_out_or_beyond_a_limit_is_refused(bake):
    for words in ((4, "--secret", "x"), (4, "--layers", 10), ()):
        with pytest.raises(Exception, match=r"(?i)no such option|not in the range|missing parameter"):
            bake(*words)


def test_what_the_class_refuses_is_an_input_error(bake):
    with pytest.raises(InputError, match="layers must not be 7"):
        bake(4, "--layers", 7)


def test_help_stands_in_sections_and_names_units_and_defaults(bake, capsys):
    with pytest.raises(IndexError):
        bake("--help")
    said = capsys.readouterr().out
    titles = [line for line in said.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Arguments:", "Options:", "Decoration:", "Run:"]
    assert "Layers. (cm)  [default: 2; 1<=x<=9]" in said
    assert "--icing / --no-icing" in said
    assert "--no-candles" not in said
    assert said.index("Decoration:") < said.index("--candles")


def _commands() -> list[tuple[str, Any]]:
    """Return every command that a user sees, with its words."""
    top = typer.main.get_command(app_for("--help")).commands
    groups = [(name, each) for name, each in top.items() if not each.hidden]
    return [
        (" ".join([name, *more]), made)
        for name, each in groups
        for more, made in ([([n], c) for n, c in getattr(each, "commands", {}).items()] or [([], each)])
    ]


COMMANDS = dict(_commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_in_a_help_are_command_lines_and_stand_first(name, monkeypatch):
    """What the first 24 lines of 80 columns show: usage, examples, and the options most runs want."""
    monkeypatch.setenv("COLUMNS", "80")
    made = COMMANDS[name]
    text = made.get_help(made.make_context(f"occupy {name}", [], resilient_parsing=True))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "{" not in lines[0]
    if len(lines) <= 24 and not made.epilog:
        return
    examples = made.epilog.replace("\\\n", "").splitlines()
    assert len(examples) >= (2 if len(lines) > 24 else 1)
    shown = "\n".join(lines[:23])
    for example in examples:
        words = shlex.split(example)
        assert words[: 1 + len(name.split())] == ["occupy", *name.split()]
        made.make_context(name, _with_lists(words)[1 + len(name.split()) :])  # UsageError where it is wrong
        assert example.split("    ")[0].rstrip() in shown
    assert "Arguments:" in shown
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles[:2] == ["Examples:", "Arguments:"]
    assert titles[-1] == "Run:"
    expert = [title.endswith("(expert):") for title in titles[:-1]]
    assert expert == sorted(expert)  # nothing common after what is for experts


def test_a_help_longer_than_the_terminal_is_shown_page_by_page(monkeypatch, capsys):
    paged: list[str] = []
    monkeypatch.setattr("pydoc.pager", paged.append)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    assert run(["estimate", "--help"]) == 0
    assert not paged  # not on a terminal
    whole = capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(["estimate", "--help"]) == 0
    assert paged == [whole]
    monkeypatch.setenv("LINES", "500")
    assert run(["estimate", "--help"]) == 0
    assert len(paged) == 1
    assert capsys.readouterr().out == whole


def test_a_record_says_it_as_the_command_line_does():
    said = as_written(Cake(4, fillings=("jam",), recipe=Path("a.txt")), without=("secret", "icing"))
    assert said == {
        "size": 4, "layers": 2, "candles": False, "filling": ["jam"], "between": None, "recipe": "a.txt",
    }  # fmt: skip


CLASSES = [
    kind
    for module in (settings, requests)
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__ and hasattr(kind, "__dataclass_fields__")
]


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not requests.SimulationRequest])
def test_every_option_has_a_help_that_is_a_sentence(kind):
    for each in fields(kind):
        assert each.metadata["help"], each.name
        assert all(flag.startswith("-") for flag in flags_of(each))


def test_a_record_of_a_simulation_holds_every_option_once():
    groups = (requests.Imaging, requests.Truth, requests.ClassMixture, requests.Processing)
    names = [name for group in groups for name in names_of(group)]
    assert len(names) == len(set(names))
    said = requests.SimulationRequest((Path("a.cif"),), "a").as_written()
    assert len(said) == len(names) + 2
    assert (said["snr"], said["sharpen"], said["models"]) == (30.0, 0.0, ["a.cif"])


def test_a_list_that_a_shell_made_of_a_pattern_belongs_to_its_option():
    spread = ["regions", "a.mrc", "--masks", "m1.mrc", "--masks", "m2.mrc", "--quiet"]
    assert _with_lists(["regions", "a.mrc", "--masks", "m1.mrc", "m2.mrc", "--quiet"]) == spread
    models = ["classes", "--model", "a.cif", "--model", "b.pdb.gz", "job"]
    assert _with_lists(["classes", "--model", "a.cif", "b.pdb.gz", "job"]) == models
    unclear = ["classes", "--masks", "m1.mrc", "map1.mrc", "map2.mrc"]
    assert _with_lists(unclear) == unclear
    plain = ["classes", "-o", "out", "job", "--model", "a.cif", "--compare", "1", "2"]
    assert _with_lists(plain) == plain


def test_patterns_stand_for_models(tmp_path: Path):
    for name in ("b.cif", "a.cif", "c.txt"):
        (tmp_path / name).touch()
    asked = RegionRequest(models=(tmp_path / "*.cif", tmp_path / "a.cif"))
    assert [path.name for path in asked.models] == ["a.cif", "b.cif"]
    with pytest.raises(InputError, match=r"no model matches .*\*.pdb"):
        RegionRequest(models=(tmp_path / "*.pdb",))


def test_every_class_is_printed_with_its_whole_name():
    names = tuple(f"run_it025_class{k:03d}_of_a_long_job" for k in range(1, 12))
    values = np.arange(22.0).reshape(2, 11) / 22
    table = OccupancyTable(
        ("A", "bigger"), names, values, values / 10, np.ones(2), np.ones(2), np.ones(11) / 11
    )
    lines = _matrix(table, [1, 0])
    said = "\n".join(lines)
    assert all(said.count(name) == 1 for name in names)
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("  bigger")]) > 1
    assert all(cell_text(v, v / 10) in said for v in values.ravel())
