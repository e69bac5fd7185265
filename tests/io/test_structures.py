"""Several coordinate files of one complex become one structure, whose chains can be told apart."""

import gemmi
import pytest

from occupy.errors import InputError
from occupy.io.models import join_models


def written(folder, name, chains):
    structure = gemmi.Structure()
    model = gemmi.Model(1)
    for chain in chains:
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId("1")
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(1, 2, 3)
        residue.add_atom(atom)
        made = gemmi.Chain(chain)
        made.add_residue(residue)
        model.add_chain(made)
    structure.add_model(model)
    structure.write_pdb(str(folder / name))
    return folder / name


def names(structure):
    return [chain.name for chain in structure[0]]


def test_chains_keep_their_names_where_they_differ(tmp_path):
    files = [written(tmp_path, "large.pdb", "AB"), written(tmp_path, "small.pdb", "CD")]
    assert names(join_models(files)) == ["A", "B", "C", "D"]
    assert names(join_models(files[:1])) == ["A", "B"]


def test_names_that_come_twice_get_the_files(tmp_path):
    files = [written(tmp_path, "large.v2.pdb", "AB"), written(tmp_path, "small.pdb", "B")]
    assert names(join_models(files)) == ["large.v2_A", "large.v2_B", "small_B"]


def test_what_is_no_model_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    good = written(tmp_path, "good.pdb", "A")
    with pytest.raises(InputError, match=r"notes\.txt: not a model by its name"):
        join_models([good, tmp_path / "notes.txt"])
    with pytest.raises(InputError, match=r"missing\.pdb: no such file"):
        join_models([tmp_path / "missing.pdb"])
