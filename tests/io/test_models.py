"""Models come in as they are, and go out with other occupancies and nothing else changed."""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecules import backbone, line, residue, structure, write
from occupy.errors import InputError, OutputError
from occupy.io.models import _model_stem, _rounded_parts, read_model, write_occupancies

NON_POLYMER, WATER = gemmi.EntityType.NonPolymer, gemmi.EntityType.Water


def mixed() -> gemmi.Structure:
    ligand = residue(301, [("C1", "C", (9, 9, 9)), ("H1", "H", (9, 9, 8))], name="HEM", kind=NON_POLYMER)
    calcium = residue(302, [("CA", "Ca", (5, 5, 5))], name="CA", kind=NON_POLYMER)
    water = residue(401, [("O", "O", (1, 1, 1))], name="HOH", kind=WATER)
    return structure({"A": [*line((0, 0, 0), 5), ligand, calcium, water], "B-1": line((0, 20, 0), 4)})


@pytest.mark.parametrize("name", ["m.cif", "m.pdb", "m.cif.gz"])
def test_a_model_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    made = mixed()
    if name.endswith("pdb"):
        made[0]["B-1"].name = "B"
    path = write(made, tmp_path / name.removesuffix(".gz"))
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    model = read_model(tmp_path / name)
    assert model.names == ("m",)
    kinds = [(r.chain[0], r.number, r.kind) for r in model.residues]
    assert kinds[:6] == [*(("A", i, "polymer") for i in range(1, 6)), ("A", 301, "ligand")]
    assert ("A", 302, "ligand") in kinds
    assert ("A", 401, "water") in kinds
    assert len([k for k in kinds if k[0] == "B"]) == 4
    assert model.trace.sum() == 9  # every CA of the polymers, and not the calcium
    np.testing.assert_allclose(model.xyz[model.trace][1], (3.8, 0, 0), atol=1e-3)
    assert len(model.xyz) == 9 * 3 + 1 + 1 + 1  # no hydrogen
    assert not model.xyz.flags.writeable


def test_chains_of_one_name_in_several_files_are_told_apart(tmp_path: Path) -> None:
    one = write(structure({"A": line((0, 0, 0), 3)}), tmp_path / "one.pdb")
    two = write(structure({"A": line((0, 0, 0), 3), "B": line((9, 0, 0), 3)}), tmp_path / "two.cif")
    model = read_model([one, two])
    assert list(dict.fromkeys(map(model.chain_label, model.residues))) == ["one.A", "two.A", "two.B"]
    alone = read_model([two])
    assert list(dict.fromkeys(map(alone.chain_label, alone.residues))) == ["A", "B"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.cif", None, "no such file"),
        ("map.mrc", b"xxxx", "not a model by its name"),
        ("bad.cif", b"data_x\nloop_\n_atom_site.id\n_atom_site.x\n1\n", "not a readable model"),
        ("bad.cif.gz", b"\x1f\x8b nothing", "damaged or truncated"),
        ("empty.cif", b"data_x\n_entry.id x\n", "no atoms"),
        ("empty.pdb", b"", "no atoms"),
        ("binary.pdb", bytes(range(256)) * 20, "no atoms"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_model(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder"):
        read_model(tmp_path)


def test_stems() -> None:
    assert [_model_stem(n) for n in ("a/b.cif", "b.pdb.gz", "b.v2.mmcif", "b")] == ["b", "b", "b.v2", "b"]


def occupancies(path: Path) -> dict[tuple[str, int, str, str], float]:
    """Return (chain, number, atom, altloc) → occupancy."""
    found = gemmi.read_structure(str(path))
    return {
        (c.name, r.seqid.num, a.name, a.altloc.strip("\0")): a.occ for c in found[0] for r in c for a in r
    }


def test_occupancies_are_set_clipped_and_all_else_is_kept(tmp_path: Path) -> None:
    source = write(mixed(), tmp_path / "m.cif", refine="by hand; 'quoted' \"twice\"", my_notes="kept")
    before = gemmi.cif.read(str(source))[0]
    values = {("A", i, ""): 0.25 for i in range(1, 6)} | {
        ("B-1", 1, ""): 1.7,
        ("B-1", 2, ""): -0.2,
        ("B-1", 3, ""): float("nan"),
        ("Z", 1, ""): 0.5,
    }
    count = write_occupancies(source, tmp_path / "out.cif", values, "a note\nof two lines")
    assert count == 5 * 3 + 3 + 3
    text = (tmp_path / "out.cif").read_text()
    assert text.startswith("# a note\n# of two lines\n")
    after = gemmi.cif.read(str(tmp_path / "out.cif"))[0]
    assert after.get_mmcif_category_names() == before.get_mmcif_category_names()
    for category in before.get_mmcif_category_names():
        old, new = before.get_mmcif_category(category), after.get_mmcif_category(category)
        if category == "_atom_site.":
            old.pop("occupancy"), new.pop("occupancy")
        assert old == new
    found = occupancies(tmp_path / "out.cif")
    assert {v for k, v in found.items() if k[0] == "A" and k[1] < 10} == {0.25}
    assert {v for k, v in found.items() if k[0] == "A" and k[1] > 10} == {1.0}
    assert [found["B-1", i, "CA", ""] for i in (1, 2, 3, 4)] == [1.0, 0.0, 1.0, 1.0]


def test_alternative_conformations_keep_their_shares_and_sum_up(tmp_path: Path) -> None:
    places = [("N", "N", (0, 0, 0)), ("CA", "C", (1, 0, 0)), ("CA", "C", (1, 1, 0)), ("CB", "C", (2, 0, 0))]
    two = residue(2, places, altlocs=["", "A", "B", "A"], occupancies=[1.0, 0.6, 0.3, 0.6])
    none = residue(3, places[1:3], altlocs=["A", "B"], occupancies=[0.0, 0.0])
    chain = [backbone(1, (9, 9, 9)), two, none, backbone(4, (20, 0, 0))]
    source = write(structure({"A": chain}), tmp_path / "m.cif")
    write_occupancies(source, tmp_path / "out.cif", {("A", n, ""): 0.5 for n in (1, 2, 3)})
    found = occupancies(tmp_path / "out.cif")
    assert found["A", 2, "N", ""] == pytest.approx(0.5)
    assert found["A", 2, "CA", "A"] == pytest.approx(0.333, abs=1e-6)
    assert found["A", 2, "CB", "A"] == found["A", 2, "CA", "A"]  # a group keeps together
    assert found["A", 2, "CA", "B"] == pytest.approx(0.167, abs=1e-6)
    assert (found["A", 3, "CA", "A"], found["A", 3, "CA", "B"]) == (0.25, 0.25)
    assert found["A", 4, "CA", ""] == 1.0


@given(st.floats(0, 1), st.lists(st.floats(0.01, 1), min_size=1, max_size=6))
def test_rounded_parts_sum_up_to_the_rounded_whole(value: float, weights: list[float]) -> None:
    shares = [w / sum(weights) for w in weights]
    parts = _rounded_parts(value, shares)
    assert sum(parts) == pytest.approx(round(value, 3), abs=1e-9)
    np.testing.assert_allclose(parts, np.multiply(value, shares), atol=1.01e-3)


def test_a_pdb_file_becomes_mmcif_and_names_may_be_packed(tmp_path: Path) -> None:
    source = write(structure({"A": line((0, 0, 0), 3)}), tmp_path / "m.pdb")
    write_occupancies(source, tmp_path / "out.cif.gz", {("A", 2, ""): 0.125})
    assert (tmp_path / "out.cif.gz").read_bytes()[:2] == b"\x1f\x8b"
    found = occupancies(tmp_path / "out.cif.gz")
    assert [found["A", i, "CA", ""] for i in (1, 2, 3)] == [1.0, 0.125, 1.0]


def test_a_file_without_occupancies_gets_some(tmp_path: Path) -> None:
    source = write(structure({"A": line((0, 0, 0), 2)}), tmp_path / "m.cif")
    document = gemmi.cif.read(str(source))
    table = document[0].find_loop("_atom_site.id").get_loop()
    table.remove_column("_atom_site.occupancy")
    document.write_file(str(source))
    assert "_atom_site.occupancy" not in source.read_text()
    write_occupancies(source, tmp_path / "out.cif", {("A", 2, ""): 0.5})
    found = occupancies(tmp_path / "out.cif")
    assert (found["A", 1, "CA", ""], found["A", 2, "CA", ""]) == (1.0, 0.5)


def test_where_nothing_can_be_written_nothing_is(tmp_path: Path) -> None:
    source = write(structure({"A": line((0, 0, 0), 2)}), tmp_path / "m.cif")
    with pytest.raises(OutputError):
        write_occupancies(source, tmp_path / "missing" / "out.cif", {("A", 2, ""): 0.5})
    with pytest.raises(InputError):
        write_occupancies(tmp_path / "no.cif", tmp_path / "out.cif", {})
    assert [p.name for p in tmp_path.iterdir()] == ["m.cif"]


def pdb(chains: str, remark: bytes = b"") -> bytes:
    """Return a PDB file with one CA in each chain."""
    atom = "ATOM  %5d  CA  ALA %s%4d    %8.3f%8.3f%8.3f  1.00 20.00           C\n"
    return remark + "".join(atom % (i, c, i, i, 0, 0) for i, c in enumerate(chains, 1)).encode("latin-1")


def test_m01_a_chain_without_a_name_is_called_by_an_underscore(tmp_path: Path) -> None:
    path = tmp_path / "m.pdb"
    for chains, labels in ((" ", ["_"]), ("A B", ["A", "_", "B"]), ("_ ", ["_", "__"])):
        path.write_bytes(pdb(chains))
        model = read_model(path)
        assert [model.chain_label(residue) for residue in model.residues] == labels


def test_m01_occupancies_of_a_chain_without_a_name_are_written(tmp_path: Path) -> None:
    (tmp_path / "m.pdb").write_bytes(pdb(" B"))
    assert write_occupancies(tmp_path / "m.pdb", tmp_path / "o.cif", {("", 1, ""): 0.25}) == 1
    found = gemmi.read_structure(str(tmp_path / "o.cif"))
    assert [a.occ for c in found[0] for r in c for a in r] == [0.25, 1.0]


def test_l13_atoms_beyond_ascii_are_refused_and_remarks_are_not(tmp_path: Path) -> None:
    path = tmp_path / "u.pdb"
    path.write_bytes(pdb("A\xf5"))
    with pytest.raises(InputError, match="line 2: an atom with a letter beyond ASCII"):
        read_model(path)
    for remark in ("REMARK M\xfcller\n".encode("latin-1"), "REMARK Müller Å\n".encode()):
        path.write_bytes(pdb("AB", remark))
        assert [residue.chain for residue in read_model(path).residues] == ["A", "B"]


def test_l13_an_mmcif_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = write(structure({"A": line((0, 0, 0), 3)}), tmp_path / "m.cif")
    path.write_bytes(path.read_bytes().replace(b" ALA ", b" AL\xf5 "))
    with pytest.raises(InputError, match="not a readable model"):
        read_model(path)


@pytest.mark.parametrize(("old", "new"), [(b" 2 A ", b" [ A "), (b"_atom_site.", b"_atom_sit\xe9.")])
def test_damaged_models_are_not_written(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = write(structure({"A": line((0, 0, 0), 3)}), tmp_path / "m.cif")
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))
    with pytest.raises(InputError, match="not a readable model"):
        write_occupancies(path, tmp_path / "o.cif", {("A", 1, ""): 0.5})
    assert not (tmp_path / "o.cif").exists()
