"""Every kind of script, run by a stand-in for ChimeraX, and used afterwards as its first lines say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from chimerax_standin import ChimeraX, WrongCommandError
from occupy.pipeline import Estimate, estimate
from occupy.report.chimerax import (
    Shown,
    _titles,
    chimerax_script,
    classes_script,
    difference_script,
    model_script,
)
from occupy.report.chimerax_files import mask_script, modified_script, simulation_script
from occupy.report.palette import DIFFERENCE, SCALE
from occupy.report.set_results import _write_class_scripts
from occupy.volume import Volume

FILES = {"map": "m.mrc", "scale": "m_scale.mrc", "confidence": "m_conf.mrc", "amplified": "m_amp.mrc"}


@pytest.fixture(scope="module")
def est() -> Estimate:
    z, y, x = np.indices((32, 32, 32)) - 16
    noise = np.random.default_rng(1).normal(0, 0.05, z.shape)
    return estimate(Volume.from_array((np.exp(-(z**2 + y**2 + x**2) / 30) + noise).astype("f4"), 3.0, "m"))


def shown(count: int) -> list[Shown]:
    return [Shown(f"class {i}", f"c{i}.mrc", f"o{i}.mrc", 1 / count) for i in range(1, count + 1)]


def examples(script: str) -> list[str]:
    """Return the commands that the comments of a script offer."""
    return [re.sub(r"\s{2,}.*", "", line[4:]) for line in script.splitlines() if line.startswith("#   ")]


def scripts(est: Estimate) -> dict[str, str]:
    return {
        "estimate": chimerax_script(est, FILES),
        "estimate with colouring": chimerax_script(
            est, {**FILES, "occupancy": "o.mrc", "colouring": "c.map"}
        ),
        "few classes": classes_script(shown(4), level=0.1),
        "one class": classes_script(shown(1)),
        "many classes": classes_script(shown(20), level=0.1),
        "difference": difference_script("c.mrc", ("a.mrc", "b.mrc"), ("class 1", "class 2"), level=0.1),
        "modified": modified_script(
            "m",
            ("m.mrc", "m_scale.mrc"),
            {"amplified": "a.mrc", "solvent_excluded": "e.mrc"},
            level=0.1,
            dust=9,
        ),
        "mask": mask_script("k.mrc", "m_scale.mrc", "m.mrc", level=0.1),
        "mask of a scale alone": mask_script("k.mrc", "m_scale.mrc"),
        "simulation": simulation_script({"consensus": "c.mrc", "class 1 (32 %)": "1.mrc"}, "m.cif", 0.1),
        "model": model_script(["m.cif", "n.pdb"], {"one": ("occ_1", "1.defattr")}),
        "model and residual": model_script(["m.cif"], {"a": ("occ_1", "1.defattr")}, residual=("r.mrc", 0.1)),
    }


def test_every_script_runs_and_what_it_offers_runs_after_it(est: Estimate) -> None:
    for name, script in scripts(est).items():
        session = ChimeraX().run(script)
        offered = examples(script)
        assert offered, name
        for command in offered:
            session.do(command)


def test_every_alias_is_offered(est: Estimate) -> None:
    for script in scripts(est).values():
        offered = {command.split()[0] for command in examples(script)}
        assert set(ChimeraX().run(script).aliases) == offered


def test_classes_keep_their_colours_when_the_level_is_changed() -> None:
    session = ChimeraX().run(classes_script(shown(4), level=0.1))
    places = {session.models[i].place for i in range(1, 5)}
    assert len(places) == 4
    for i in range(1, 5):
        source, how = session.models[i].painted or (0, {})
        assert source == i + 4
        assert session.models[source].place == session.models[i].place
        assert how["range"] == "0,1"
    session.do("occupy_level 0.3")
    assert {session.models[i].level for i in range(1, 5)} == {0.3}


def test_a_residual_is_hidden_until_asked_for_and_has_the_colours_of_differences() -> None:
    script = model_script(
        ["m.cif", "n.cif"], {"a": ("occ_1", "1.defattr")}, residual=("m_residual.mrc", 0.125)
    )
    session = ChimeraX().run(script)
    residual = session.models[3]
    assert (residual.kind, residual.name, residual.shown) == ("map", "residual", False)
    assert residual.levels == ((-0.125, DIFFERENCE[0]), (0.125, DIFFERENCE[-1]))
    assert session.models[1].shown
    session.do("occupy_residual")
    assert residual.shown


def test_maps_that_are_moved_alone_lose_their_colours() -> None:
    script = classes_script(shown(4), level=0.1)
    still = "\n".join(line for line in script.splitlines() if not line.startswith("view position"))
    with pytest.raises(WrongCommandError, match="stands elsewhere"):
        ChimeraX().run(still)


def test_names_tell_the_share() -> None:
    session = ChimeraX().run(classes_script(shown(3)))
    assert session.models[1].name == "class 1 (33 %)"
    assert session.models[4].name == "class 1 (33 %): occupancy"
    runs = [Shown(f"run_it025_class00{i}", "c", "o", 0.5) for i in (1, 2)]
    assert _titles(runs) == ["class 1 (50 %)", "class 2 (50 %)"]
    assert _titles([runs[0], Shown("run_it010_class001", "c", "o")])[0] == "run_it025_class001 (50 %)"


def test_keys_show_the_palettes(est: Estimate) -> None:
    made = scripts(est)
    (key,) = ChimeraX().run(made["estimate"]).keys
    assert tuple(colour for colour, _ in key) == SCALE
    assert (key[0][1], key[-1][1]) == ("0", "1")
    (key,) = ChimeraX().run(made["difference"]).keys
    assert tuple(colour for colour, _ in key) == DIFFERENCE
    assert (key[0][1], key[3][1], key[-1][1]) == ("-0.5", "0", "0.5")


def test_scripts_of_a_folder_run_where_they_lie(tmp_path: Path) -> None:
    maps = {n: (tmp_path / f"{n}.mrc", tmp_path / "out" / f"{n}_occ.mrc") for n in ("a", "b")}
    (tmp_path / "out").mkdir()
    files = _write_class_scripts(
        tmp_path / "out", maps, level=0.1, compare=("a", "b"), shares={"a": 0.32, "b": 0.68}
    )
    known = {"../a.mrc", "../b.mrc", "a_occ.mrc", "b_occ.mrc"}
    for name in files.values():
        ChimeraX(known).run((tmp_path / "out" / name).read_text())
    session = ChimeraX(known).run((tmp_path / "out" / "classes.cxc").read_text())
    assert session.models[1].name == "a (32 %)"


@pytest.mark.parametrize(
    "line",
    [
        "volumes #1 show",
        "volume #9 show",
        "volume #1 levle 0.1",
        "color sample #1 map #2 palette #12 range 0,1",
        "color sample #1 map #2 palette #000000:#ffffff range 1,0",
        'key #000000:"-1" #ffffff:x pos 0,0',
        "open notes.txt",
        "occupy_level",
    ],
)
def test_the_stand_in_refuses_what_chimerax_would(line: str) -> None:
    session = ChimeraX().run("open a.mrc\nopen b.mrc\nalias occupy_level volume #1 level $1")
    with pytest.raises((WrongCommandError, ValueError)):
        session.do(line)


def test_the_last_modified_map_is_shown_and_any_other_at_a_word() -> None:
    script = modified_script(
        "m", ("m.mrc", "s.mrc"), {"amplified": "a.mrc", "sigmoid": "g.mrc"}, level=0.2, dust=9
    )
    session = ChimeraX().run(script)
    assert [i for i, model in session.models.items() if model.shown] == [4]
    assert {session.models[i].level for i in (1, 3, 4)} == {0.2}
    assert {(session.models[i].painted or (0,))[0] for i in (1, 3, 4)} == {2}
    session.do("occupy_show 1")
    assert [i for i, model in session.models.items() if model.shown] == [1]


def test_a_mask_lies_over_its_map() -> None:
    session = ChimeraX().run(mask_script("k.mrc", "s.mrc", "m.mrc", level=0.2))
    assert [session.models[i].shown for i in (1, 2, 3)] == [True, False, True]
    assert (session.models[1].level, session.models[3].level) == (0.5, 0.2)
    session.do("occupy_mask 0.9")
    assert (session.models[1].level, session.models[3].level) == (0.9, 0.2)


def test_simulated_classes_can_be_shown_one_by_one() -> None:
    maps = {"consensus": "c.mrc", "class 1 (32 %)": "1.mrc", "class 2 (68 %)": "2.mrc"}
    session = ChimeraX().run(simulation_script(maps, "m.cif", 0.1))
    assert session.models[4].kind == "atoms"
    assert session.models[2].name == "class 1 (32 %)"
    session.do("occupy_show 3")
    assert [i for i in (1, 2, 3) if session.models[i].shown] == [3]
