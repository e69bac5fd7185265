"""Groups of one occupancy for refinement programs: the residues that are meant, in each program's words."""

from __future__ import annotations

import gemmi
import pytest
import yaml

from occupy.model import Residue
from occupy.report.refinement import (
    _Alternatives,
    _OccupancyGroup,
    _phenix_parameters,
    _refmac_keywords,
    _servalcat_yaml,
    _Span,
    _spans_of,
    _write_refinement,
)

RESIDUES = [
    Residue(0, chain, number, insertion, "ALA", chain, "polymer")
    for chain, number, insertion in [("A", n, "") for n in (1, 2, 3, 5, 6)] + [("B", 1, ""), ("B", 1, "A")]
]
GROUPS = [
    _OccupancyGroup("arm α", 0.62, 0.05, (_Span("A", "1", "3"), _Span("B"))),
    _OccupancyGroup("site", 0.4, 0.1, (_Span("A", "5", "5", "B"),)),
    _OccupancyGroup("insert", 0.2, 0.1, (_Span("B", "1A", "1A"),)),
]
EITHER = (_Alternatives((1, 2), complete=False),)


def test_ranges_hold_what_is_meant_and_nothing_else():
    assert _spans_of(RESIDUES[:5], RESIDUES) == (_Span("A"),)
    assert _spans_of([RESIDUES[0], RESIDUES[1], RESIDUES[3]], RESIDUES) == (
        _Span("A", "1", "2"),
        _Span("A", "5", "5"),
    )
    assert _spans_of([RESIDUES[6]], RESIDUES) == (_Span("B", "1A", "1A"),)
    # Numbers that fall again start a new range.
    wound = [*RESIDUES[:2], RESIDUES[2]._replace(number=1, insertion="Z"), RESIDUES[3]]
    assert len(_spans_of(wound[:3], wound)) == 2


def test_refmac():
    lines = _refmac_keywords(GROUPS, EITHER).splitlines()
    assert lines[1] == "# arm ?: 0.62 +- 0.05"
    assert "occupancy group id 1 chain A residue from 1 to 3" in lines
    assert "occupancy group id 1 chain B" in lines
    assert "occupancy group id 2 chain A residue 5 alt B" in lines
    assert next(line for line in lines if "1A" in line).startswith("#")
    assert lines[-2:] == ["occupancy group alts incomplete 1 2", "occupancy refine"]


def test_servalcat_names_atoms_as_gemmi_does():
    refine = yaml.safe_load(_servalcat_yaml(GROUPS, EITHER))["refine"]
    assert [group["id"] for group in refine["occ_groups"]] == [1, 2, 3]
    assert refine["occ_group_constraints"] == [{"ids": [1, 2], "complete": False}]
    every = [text for group in refine["occ_groups"] for text in group["selections"]]
    assert refine["atom_selection"]["occ"]["include"] == every
    structure = gemmi.Structure()
    model = gemmi.Model(1)
    for name in "AB":
        chain = gemmi.Chain(name)
        for residue in (r for r in RESIDUES if r.chain == name):
            made = gemmi.Residue()
            made.name, made.seqid = "ALA", gemmi.SeqId(residue.number, residue.insertion or " ")
            for altloc in "AB" if residue.number == 5 else "\0":
                atom = gemmi.Atom()
                atom.name, atom.element, atom.altloc = "CA", gemmi.Element("C"), altloc
                made.add_atom(atom)
            chain.add_residue(made)
        model.add_chain(chain)
    structure.add_model(model)

    def chosen(texts: list[str]) -> list[str]:
        found = (gemmi.Selection(text) for text in texts)
        return [
            f"{c.name}{r.seqid}{a.altloc.strip(chr(0))}"
            for s in found
            for m in s.models(structure)
            for c in s.chains(m)
            for r in s.residues(c)
            for a in s.atoms(r)
        ]

    groups = [chosen(group["selections"]) for group in refine["occ_groups"]]
    assert groups == [["A1", "A2", "A3", "B1", "B1A"], ["A5B"], ["B1A"]]


def test_phenix_groups_stand_alone_unless_they_sum_up_to_one():
    text = _phenix_parameters(GROUPS, EITHER)
    assert text.count("constrained_group {") == 3
    assert 'selection = "(chain A and resseq 1:3) or (chain B)"' in text
    assert 'selection = "(chain A and resseq 5 and altid B)"' in text
    assert 'selection = "(chain B and resid 1A)"' in text
    assert "# at most 1 together with site: 0.40 +- 0.10" in text
    assert text.count("{") == text.count("}")
    whole = _phenix_parameters(GROUPS, (_Alternatives((1, 3), complete=True),))
    first = whole.split("constrained_group {")[1]
    assert first.count("selection =") == 2


@pytest.mark.parametrize("alternatives", [(), EITHER])
def test_three_files_are_written(tmp_path, alternatives):
    files = _write_refinement(tmp_path, "map_model", GROUPS, alternatives)
    assert set(files) == {"refmac", "servalcat", "phenix"}
    assert all((tmp_path / name).stat().st_size > 100 for name in files.values())
