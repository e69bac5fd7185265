"""The scores of the accuracy benchmark: as defined, and the shared scorer's."""

import math

import gemmi
import numpy as np
import pytest
from scipy.spatial import cKDTree

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy import collection, scoring
from benchmarks.accuracy.estimators import ESTIMATORS, upper_mode
from benchmarks.accuracy.measure import Result
from benchmarks.accuracy.samples import Sample, relion_sets, truth_columns
from benchmarks.accuracy.scoring import Unit, score_units, summarise
from benchmarks.accuracy.tables import markdown, over_maps
from occupy import Volume, read_map
from occupy.statistics.posterior import STANDARD_ERRORS_95


def chain_of(name, points, atom="CA"):
    chain = gemmi.Chain(name)
    for number, xyz in enumerate(points, start=1):
        residue, site = gemmi.Residue(), gemmi.Atom()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(str(number))
        site.name, site.element, site.pos = atom, gemmi.Element("C"), gemmi.Position(*xyz)
        residue.add_atom(site)
        chain.add_residue(residue)
    return chain


def structure_of(*chains):
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    for chain in chains:
        structure[0].add_chain(chain)
    return structure


# --- against the shared scorer --------------------------------------------------------------------------

# Printed by the shared scorer for these files: MAE, MAE_atoms, bias, bias_atoms, MAE_partial.
PRINTED = (0.096, 0.094, -0.095, -0.093, 0.077)


def test_the_numbers_are_those_of_the_shared_scorer(shared_data):
    scale = read_map(shared_data("reference") / "relion50s_consensus" / "occ_mod" / "scale_occ.mrc")
    home = shared_data("relion_50s")
    truth = truth_columns(home / "truth" / "consensus.csv")["occupancy"]
    model = gemmi.read_structure(str(home / "model.cif"))
    units = score_units(scale.data, None, scale.voxel_size[0], model, truth, {})
    found = summarise(units)
    assert found["units"] == 129
    names = ("mae", "mae_atoms", "bias", "bias_atoms", "mae_partial")
    assert tuple(round(found[name], 3) for name in names) == PRINTED


def test_near_is_a_plain_search_around_the_nearest_voxels():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((14, 15, 16)).astype(np.float32)
    points = rng.uniform(-1, 30, (6, 3))
    found = scoring.read_units(data, 2.0, structure_of(chain_of("A", points)))
    centres = np.rint(points[:, ::-1] / 2.0)
    voxels = np.indices(data.shape).reshape(3, -1).T
    near = cKDTree(centres).query(voxels)[0] * 2.0 <= 3.0
    assert found["A"][0] == pytest.approx(np.median(data.reshape(-1)[near]))


def test_at_the_atoms_is_interpolated():
    field = np.indices((10, 11, 12))[2].astype(np.float32)  # x in voxels
    found = scoring.read_units(
        field, 1.5, structure_of(chain_of("A", [(6.0, 3, 3), (6.9, 6, 6), (9.0, 3, 6)]))
    )
    assert found["A"][1] == pytest.approx(6.9 / 1.5)


def test_chains_without_marked_atoms_or_truth_are_left_out():
    model = structure_of(
        chain_of("A", [(5, 5, 5)]), chain_of("B", [(5, 5, 5)], "CB"), chain_of("C", [(5, 5, 5)])
    )
    units = score_units(np.ones((8, 8, 8), np.float32), None, 1.5, model, {"A": 0.5, "B": 0.5, "X": 1}, {})
    assert [unit.unit for unit in units] == ["A"]


def test_solvent_is_read_far_from_atoms():
    data = np.full((30, 30, 30), 0.2, np.float32)
    data[10:20, 10:20, 10:20] = 1
    assert scoring.solvent_reading(data, 3.0, structure_of(chain_of("A", [(45, 45, 45)]))) == pytest.approx(
        0.2
    )
    assert math.isnan(
        scoring.solvent_reading(data[:4, :4, :4], 3.0, structure_of(chain_of("A", [(5, 5, 5)])))
    )


# --- summaries ------------------------------------------------------------------------------------------


def test_summary_of_known_units():
    units = [
        Unit("a", 1.0, 0.0, 0.9, 1.0, 0.1),
        Unit("b", 0.5, 0.0, 0.6, 0.5, 0.03),
        Unit("c", 0.0, 0.0, 0.1, 0.2, 0.2),
        Unit("d", 0.8, 150.0, 0.6, 0.8, math.nan),
    ]
    found = summarise(units)
    assert found["mae"] == pytest.approx(0.125)
    assert found["mae_atoms"] == pytest.approx(0.05)
    assert found["bias"] == pytest.approx(-0.025)
    assert found["mae_partial"] == pytest.approx(0.4 / 3)
    assert found["at_zero"] == pytest.approx(0.1)
    assert found["error_at_one"] == pytest.approx(-0.1)
    assert found["factor_b150"] == pytest.approx(0.75)
    assert found["factor_b0"] == pytest.approx((0.9 + 0.6) / 1.5)
    assert found["cover68"] == pytest.approx(2 / 3)
    assert found["cover95"] == pytest.approx(2 / 3)
    # What is beyond 0 and 1 does not count.
    reach = STANDARD_ERRORS_95
    widths = [0.1 + reach * 0.1, 2 * reach * 0.03, 0.1 + reach * 0.2]
    assert found["width95"] == pytest.approx(sum(widths) / 3)


def test_a_perfect_estimate_has_no_error():
    found = summarise([Unit(str(k), k / 4, 150.0 * (k % 2), k / 4, k / 4) for k in range(5)])
    assert found["mae"] == found["bias"] == found["mae_partial"] == found["at_zero"] == 0
    assert found["factor_b0"] == found["factor_b150"] == pytest.approx(1)
    assert math.isnan(found["cover95"])


def result(name, model, errors, seconds=1.0):
    path = collection.Path("x")
    sample = Sample(f"{model}_{len(errors)}", "tuning", model, path, path, {}, {})
    units = tuple(Unit(str(k), 0.5, 0.0, 0.5 + e, 0.5) for k, e in enumerate(errors))
    return Result(sample, name, units, 0.0, seconds)


def test_each_map_counts_once():
    assert over_maps([result("e", "m", [0.1] * 10), result("e", "n", [0.3])])["mae"] == pytest.approx(0.2)


def test_ratios_are_to_the_better_published_setting():
    results = [
        result(name, model, [error])
        for model, factor in (("m", 1.0), ("n", 2.0))
        for name, error in (
            ("published, N/20", 0.2 * factor),
            ("published, 12", 0.1 * factor),
            ("default", 0.05 if model == "m" else 0.2),
        )
    ]
    line = next(line for line in markdown(results).splitlines() if line.startswith("| default | 0.050"))
    assert line == "| default | 0.050 | 0.200 | 0.83 | 1.00 |"


# --- the collection -------------------------------------------------------------------------------------


def test_halves_share_neither_models_nor_seeds():
    for what in ("model", "seed"):
        tuning, reporting = (
            {getattr(case, what) for case in collection.CASES if case.half == half}
            for half in collection.SIMULATED
        )
        assert tuning
        assert reporting
        assert not tuning & reporting


def test_the_collection_covers_what_it_should():
    names = [case.name for case in collection.CASES]
    assert len(set(names)) == len(names)
    for half in collection.SIMULATED:
        cases = [case for case in collection.CASES if case.half == half]
        assert {case.signal_to_noise for case in cases} == {4, 15, 60}
        assert {case.sharpened for case in cases} == {case.trap for case in cases} == {True, False}
        assert min(case.resolution for case in cases) <= 3
        assert max(case.resolution for case in cases) == 8
        assert min(case.full for case in cases) == 0.25
        assert max(case.full for case in cases) == 0.75
    assert all(case.box <= 128 and case.resolution >= 2 * case.voxel_size for case in collection.CASES)


def test_traps_are_150_and_only_where_asked_for():
    structure = collection.structure_of("7pbl", None)
    for case in collection.CASES:
        if case.model != "7pbl":
            continue
        occupancies, b_factors = collection.truth_of(case, structure)
        assert (case.trap and set(b_factors.values()) == {150.0}) or not b_factors
        assert set(occupancies) == set("ABCDEFGUV")


def test_missing_data_are_named(tmp_path):
    missing = collection.missing_models(None)
    assert missing["1aon"] == "models/1aon.pdb.gz"
    assert "7pbl" not in missing
    with pytest.raises(FileNotFoundError, match=r"1aon\.pdb"):
        collection.structure_of("1aon", None)
    assert collection.missing_models(tmp_path) == missing


def test_relion_sets_are_complete(shared_data):
    samples = relion_sets(shared_data("relion_50s").parent)
    assert len(samples) == 1 + 4 + 4 + 4
    for sample in samples:
        assert sample.map.is_file()
        assert len(sample.truth) == 129


# --- running --------------------------------------------------------------------------------------------


def test_every_estimator_runs(tmp_path):
    sample = command.simulated(
        collection.SMOKE, tmp_path, lambda model: collection.structure_of(model, None), "tuning"
    )
    volume, halves, _ = sample.read()
    assert np.allclose((halves[0].data + halves[1].data) / 2, volume.data, atol=1e-4)
    for name, estimator in ESTIMATORS.items():
        reading = estimator(volume, halves)
        assert reading.occupancy.shape == volume.shape, name
        assert 0 <= reading.occupancy.min() <= reading.occupancy.max() <= 1, name
    # Made once, read again.
    before = sample.map.stat().st_mtime_ns
    command.simulated(collection.SMOKE, tmp_path, lambda _: pytest.fail("made again"), "tuning")
    assert sample.map.stat().st_mtime_ns == before


def test_upper_mode_finds_the_higher_peak():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(1, 0.05, 4000), rng.normal(3, 0.1, 3000)]).astype(np.float32)
    assert upper_mode(values) == pytest.approx(3, abs=0.1)


def test_smoke_writes_tables_and_pictures(tmp_path, capsys):
    command.main(["--smoke", "--folder", str(tmp_path)])
    assert "| default |" in capsys.readouterr().out
    made = {path.name for path in (tmp_path / "results").iterdir()}
    assert made == {"accuracy.csv", "accuracy.md", "units.csv", "tuning_bars.png", "tuning_scatter.png"}
    assert len((tmp_path / "results" / "units.csv").read_text().splitlines()) == 1 + 9


def test_unknown_estimators_are_named(tmp_path):
    with pytest.raises(SystemExit, match="unknown estimators: magic"):
        command.main(["--smoke", "--estimators", "magic"])


def test_an_estimate_of_another_shape_is_refused(tmp_path):
    from benchmarks.accuracy.measure import result_of

    volume = Volume.from_array(np.zeros((8, 8, 8), np.float32), 2.0)
    sample = Sample("s", "tuning", "m", tmp_path, tmp_path, {"A": 1.0}, {})
    model = structure_of(chain_of("A", [(8, 8, 8)]))
    with pytest.raises(ValueError, match="not a finite map"):
        result_of(sample, "e", np.zeros((4, 4, 4), np.float32), None, volume, model, 0.0)
