"""Scripts and attribute files, taken apart as ChimeraX would; the programme itself is not run."""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path

import gemmi
import numpy as np
import pytest

from occupy.errors import InputError
from occupy.io.models import read_model
from occupy.io.mrc import read_map, write_map
from occupy.model import AtomicModel, Residue
from occupy.regions.region import Region
from occupy.regions.table import OccupancyTable
from occupy.report.chimerax import (
    MOST_SHOWN,
    Shown,
    classes_script,
    difference_script,
    model_script,
    picked,
)
from occupy.report.chimerax_files import _chain_target as chain_target
from occupy.report.chimerax_files import attribute_name, defattr_text
from occupy.report.palette import DIFFERENCE
from occupy.report.refinement import ModelFiles
from occupy.report.set_results import _write_class_scripts, write_set_tables
from occupy.volume import Volume


def shown(count: int) -> list[Shown]:
    return [Shown(f"class {i}", f"c {i}.mrc", f"o'{i}.mrc") for i in range(count)]


def commands(script: str, *words: str) -> list[list[str]]:
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    parts = [shlex.split(line, comments=False, posix=True) for line in lines]
    return [part for part in parts if tuple(part[: len(words)]) == words]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def model(residues: list[tuple[int, str, int, str]]) -> AtomicModel:
    made = tuple(Residue(f, c, n, i, "ALA", "1", "polymer") for f, c, n, i in residues)
    count = len(made)
    names = tuple(f"m{i}" for i in range(max(r.file for r in made) + 1))
    return AtomicModel(names, np.zeros((count, 3)), np.arange(count), np.ones(count, bool), made)


def assigned(text: str) -> list[tuple[str, float]]:
    lines = [line.split("\t") for line in text.splitlines() if line.startswith("\t")]
    assert all(len(parts) == 3 for parts in lines)
    return [(parts[1], float(parts[2])) for parts in lines]


def value_of(text: str, residue: Residue, several: bool) -> float:
    """Return the value that the lines of an attribute file give a residue."""
    found = np.nan
    for spec, value in assigned(text):
        match = re.fullmatch(
            r"(?:#(\d+))?(?: & )?(?:/(\w+):|::chain_id=\"(.*)\" & :)(-?\d+)(?:-(-?\d+))?", spec
        )
        assert match, spec
        file, plain, quoted_name, first, last = match.groups()
        assert (file is not None) == several
        in_file = file is None or int(file) == residue.file + 1
        chain = plain if plain is not None else quoted_name
        high = int(last) if last else int(first)
        if in_file and chain == residue.chain and int(first) <= residue.number <= high:
            assert np.isnan(found), "given twice"
            found = value
    return found


@pytest.mark.parametrize("several", [False, True])
def test_every_residue_gets_its_value_and_no_other(several: bool) -> None:
    rng = np.random.default_rng(0)
    residues = [
        (f, chain, n, "")
        for f in range(2 if several else 1)
        for chain in ("A", "b7", "B-1", "x y", "*")
        for n in (-3, -2, 1, 2, 3, 7, 8, 20)
    ]
    made = model(residues)
    values = rng.choice([0.25, 0.5, np.nan], len(residues))
    text = defattr_text(made, values, "occupancy_x")
    assert text.splitlines()[1:4] == ["attribute: occupancy_x", "match mode: any", "recipient: residues"]
    for residue, value in zip(made.residues, values, strict=True):
        np.testing.assert_equal(value_of(text, residue, several), value)


def test_runs_are_short_lists() -> None:
    made = model([(0, "A", n, "") for n in range(1, 501)] + [(0, "L7", n, "") for n in range(1, 51)])
    values = [0.3] * 100 + [0.7] * 400 + [1.0] * 50
    assert assigned(defattr_text(made, values, "o")) == [
        ("/A:1-100", 0.3),
        ("/A:101-500", 0.7),
        ("/L7:1-50", 1.0),
    ]


def test_insertion_codes_are_named() -> None:
    made = model([(0, "A", 52, ""), (0, "A", 52, "A"), (0, "A", 53, "")])
    text = defattr_text(made, [0.1, 0.2, 0.2], "o")
    assert assigned(text) == [("/A:52", 0.1), ("/A:52A-53", 0.2)]


def test_chains_by_name_or_by_attribute() -> None:
    assert chain_target("A1").format("5") == "/A1:5"
    assert chain_target("A1", "#2").format("5-9") == "#2/A1:5-9"
    assert chain_target("A-1", "#2").format("5") == '#2 & ::chain_id="A-1" & :5'
    assert chain_target("{x}").format("5") == '::chain_id="{x}" & :5'


def test_attribute_names_are_what_chimerax_takes() -> None:
    for name in ("run_it025_class001", "7 b", "grün;x"):
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", attribute_name(name))


def test_few_classes_stand_side_by_side() -> None:
    script = classes_script(shown(4), level=0.03)
    assert [c[1] for c in commands(script, "open")] == [f"c {i}.mrc" for i in range(4)] + [
        f"o'{i}.mrc" for i in range(4)
    ]
    samples = commands(script, "color", "sample")
    assert [(c[2], c[4]) for c in samples] == [(f"#{i}", f"#{i + 4}") for i in range(1, 5)]
    assert "volume #1-4 step 1 show style surface level 0.03" in script
    assert commands(script, "tile")[0][1:4] == ["#1-4", "columns", "2"]
    assert not commands(script, "mseries")


def test_many_classes_get_a_slider_and_no_more_than_can_be_opened() -> None:
    every = [f"{i}" for i in range(200)]
    some = [shown(200)[int(i)] for i in picked(every)]
    script = classes_script(some, of=200)
    opened = [c[1] for c in commands(script, "open")]
    assert len(opened) == 2 * MOST_SHOWN
    assert (opened[0], opened[MOST_SHOWN - 1]) == ("c 0.mrc", "c 199.mrc")
    assert f"{MOST_SHOWN} of 200 maps" in script
    assert commands(script, "mseries", "slider", f"#1-{MOST_SHOWN}")
    assert not commands(script, "tile")


def test_odd_names_do_not_break_a_script() -> None:
    script = classes_script([Shown('a"b;c\nd\\', "x.mrc", "y.mrc")])
    assert commands(script, "rename", "#1") == [["rename", "#1", "a'b,c d/"]]
    with pytest.raises(InputError, match="line break"):
        classes_script([Shown("a", "x\n.mrc", "y.mrc")])
    with pytest.raises(InputError, match="contour level"):
        classes_script(shown(2), level=float("nan"))
    with pytest.raises(ValueError, match="no maps"):
        classes_script([])


def test_a_difference_is_second_minus_first() -> None:
    script = difference_script("comp.mrc", ("a.mrc", "b.mrc"), ("A", "B"), largest=0.4)
    assert [c[1] for c in commands(script, "open")] == ["comp.mrc", "a.mrc", "b.mrc"]
    assert commands(script, "volume", "subtract") == [["volume", "subtract", "#3", "#2", "modelId", "#4"]]
    (sample,) = commands(script, "color", "sample")
    assert sample[2:5] == ["#1", "map", "#4"]
    palette = sample[sample.index("palette") + 1].split(":")
    assert tuple(palette) == DIFFERENCE
    assert option(sample, "range") == "-0.4,0.4"
    (key,) = commands(script, "key")
    assert [word.split(":")[1] for word in key[1:8]] == ["-0.4", "", "", "0", "", "", "0.4"]
    assert '"' not in next(line for line in script.splitlines() if line.startswith("key "))
    with pytest.raises(InputError, match="largest difference"):
        difference_script("c", ("a", "b"), ("A", "B"), largest=0)


def test_a_model_is_coloured_by_the_first_map_and_can_be_by_others() -> None:
    script = model_script(["m.cif", "n.cif"], {"one": ("occ_1", "1.defattr"), "two": ("occ_2", "2.defattr")})
    assert [c[1] for c in commands(script, "open")] == ["m.cif", "n.cif", "1.defattr", "2.defattr"]
    (colour,) = commands(script, "color", "byattribute")
    assert colour[2:4] == ["r:occ_1", "#1-2"]
    assert "range 0,1 novalue" in script
    assert commands(script, "alias", "occupy_by")[0][4] == "r:$1"


def test_everything_of_a_set_goes_into_one_folder(tmp_path: Path) -> None:
    from molecules import line, structure, write

    source = write(structure({"A": line((0, 0, 0), 4), "B": line((0, 9, 0), 4)}), tmp_path / "m.cif")
    made = read_model(source)
    regions = (
        Region("A", "chain", [0], (2, 2, 2), range(4)),
        Region("B", "chain", [1], (2, 2, 2), range(4, 8)),
    )
    maps = ("class/1", "class 2", "class-2")
    values = np.array([[0.25, 0.5, 0.75], [1.0, 0.0, 0.5]])
    table = OccupancyTable(
        ("A", "B"), maps, values, values * 0 + 0.1, np.ones(2), np.ones(2), np.full(3, np.nan)
    )
    folder = tmp_path / "out"
    files = write_set_tables(folder, table, model=ModelFiles(made, regions, (source,)))
    assert {path.name for path in folder.iterdir()} == set(files.values())
    found = gemmi.read_structure(str(folder / "class_1_m_occupancies.cif"))
    assert {c.name: {a.occ for r in c for a in r} for c in found[0]} == {"A": {0.25}, "B": {1.0}}
    names = re.findall(r"attribute: (\w+)", "".join(p.read_text() for p in sorted(folder.glob("*.defattr"))))
    assert len(set(names)) == 3  # also where names differ in what an attribute cannot say
    assert 'open "../m.cif"' in (folder / "occupancy_model.cxc").read_text()


def test_class_scripts_name_files_from_their_folder(tmp_path: Path) -> None:
    maps = {n: (tmp_path / f"{n}.mrc", tmp_path / "out" / f"{n}_occupancy.mrc") for n in ("a", "b")}
    (tmp_path / "out").mkdir()
    files = _write_class_scripts(tmp_path / "out", maps, level=0.1, compare=("a", "b"))
    assert files == {"classes_script": "classes.cxc", "difference_script": "b_minus_a.cxc"}
    script = (tmp_path / "out" / "classes.cxc").read_text()
    assert 'open "../a.mrc"' in script
    assert 'open "a_occupancy.mrc"' in script


def test_h05_maps_of_a_set_that_chimerax_cannot_open_are_copied(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    volume = Volume.from_array(np.random.default_rng(0).random((8, 8, 8)), 2.0)
    maps = {}
    for name in ("a", "b"):
        write_map(tmp_path / f"{name}.mrc", volume)
        maps[name] = tmp_path / f"{name}.mrc", out / f"{name}_occupancy.mrc"
    packed = tmp_path / "b.mrc.gz"
    packed.write_bytes(gzip.compress((tmp_path / "b.mrc").read_bytes()))
    files = _write_class_scripts(out, maps | {"b": (packed, maps["b"][1])}, compare=("a", "b"))
    assert files["input_b"] == "b_input.mrc"
    assert "input_a" not in files
    opened = [c[1] for c in commands((out / "classes.cxc").read_text(), "open")]
    assert opened[:2] == ["../a.mrc", "b_input.mrc"]
    assert commands((out / "b_minus_a.cxc").read_text(), "open")[0][1] == "b_input.mrc"
    np.testing.assert_array_equal(read_map(out / "b_input.mrc").data, volume.data)


def test_m01_a_chain_without_a_name_is_what_is_in_no_other() -> None:
    residues = tuple(Residue(0, c, 1, "", "ALA", "1", "polymer") for c in ("A", "", "b-1"))
    model = AtomicModel(("m",), np.zeros((3, 3)), np.arange(3), np.ones(3), residues)
    lines = defattr_text(model, [0.1, 0.2, 0.3], "o").splitlines()
    assert '\t:1 & ~(/A) & ~(::chain_id="b-1")\t0.2000' in lines
