"""`occupy-relion-reconstruct` with a stand-in for RELION's program: what must hold whatever RELION does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hook_calls import SHELLS, N, call, maps, result, two_iterations
from occupy.io.loop import FOLDER, ReconstructionCall, read_calls
from occupy.relion import hook
from occupy.relion.class3d import Class3D, _class3d_words, guide
from occupy.relion.classes import earlier_classes, read_weights
from occupy.relion.options import HookOptions
from occupy.relion.runreport import _class_iterations, _ClassIteration, _run_warnings, _table
from occupy.runs.agreement import adjusted_rand


def test_a_class_keeps_its_own_and_loses_its_noise(job):
    before = maps(1)
    stars = two_iterations(job)
    for star in stars:
        assert hook._run_hook([str(star)]) == 0
    after = [result(star) for star in stars]
    own, was = after[1] - after[0], before[1] - before[0]
    at = (N // 2, N // 2, N // 2 + 5)
    assert own[at] > 0.6 * was[at]
    far = np.s_[: N // 3, :, :]
    assert own[far].std() < 0.4 * was[far].std()
    records = read_calls(job / FOLDER)
    assert [r["state"] for r in records] == ["alone", "alone", "separated", "separated"]
    assert sum(r["particles"] for r in records[2:]) == pytest.approx(2000, rel=0.01)


def test_every_class_is_compared_with_the_same_set(job):
    stars = two_iterations(job)
    hook._run_hook([str(stars[1])])
    alone = result(stars[1])
    stars = two_iterations(job)
    hook._run_hook([str(stars[0])])
    hook._run_hook([str(stars[1])])
    assert np.array_equal(result(stars[1]), alone)


def test_a_crash_leaves_relions_map(job, monkeypatch, capfd):
    stars = two_iterations(job)

    def crash(*_):
        raise RuntimeError("a crash")

    monkeypatch.setattr("occupy.relion.classes.read_weights", crash)
    before = result(stars[0])
    assert hook._run_hook([str(stars[0])]) == 0
    assert np.array_equal(result(stars[0]), before)
    said = [line for line in capfd.readouterr().out.splitlines() if "crash" in line]
    assert len(said) == 1
    assert "RELION's own map is used" in said[0]
    assert read_calls(job / FOLDER)[-1]["state"] == "failed"


@pytest.mark.parametrize("damage", ["weight", "state", "star", "options"])
def test_damaged_files_leave_relions_map(job, capfd, damage):
    stars = two_iterations(job)
    before = result(stars[0])
    if damage == "weight":
        stars[0].with_name(stars[0].stem + "_weight.mrc").write_bytes(b"nothing")
    elif damage == "state":
        for path in (job / FOLDER).glob("*.npz"):
            path.write_bytes(path.read_bytes()[:100])
    elif damage == "star":
        stars[0].write_text("data_\n")
    else:
        (job / "occupy_relion.yaml").write_text("bugdet: 3\n")
    assert hook._run_hook([str(stars[0])]) == 0
    assert np.array_equal(result(stars[0]), before)
    assert "RELION's" in capfd.readouterr().out


def test_relions_own_failure_is_handed_on(job):
    star = call(job, 1, 1, maps()[0], root="fail")
    assert hook._run_hook([str(star)]) == 3


def test_a_missing_program_is_named(job, monkeypatch, capfd):
    monkeypatch.setenv("OCCUPY_RELION_EXECUTABLE", "/nowhere/relion_external_reconstruct")
    assert hook._run_hook([str(call(job, 1, 1, maps()[0]))]) == 127
    assert "OCCUPY_RELION_EXECUTABLE" in capfd.readouterr().out


def test_one_class_is_left_as_it_is(job):
    for iteration in (1, 2, 3):
        star = call(job, iteration, 1, maps(iteration)[0])
        before = result(star)
        assert hook._run_hook([str(star)]) == 0
        assert np.array_equal(result(star), before)


def test_an_empty_class_is_left_as_it_is(job):
    stars = two_iterations(job)
    empty = call(job, 2, 1, np.zeros((N, N, N), dtype=np.float32))
    assert hook._run_hook([str(empty)]) == 0
    assert not result(empty).any()
    # The other one goes on, and so does the next iteration with one class less.
    assert hook._run_hook([str(stars[1])]) == 0
    star = call(job, 3, 2, maps(2)[1])
    assert hook._run_hook([str(star)]) == 0
    assert np.isfinite(result(star)).all()


def test_a_changed_current_size(job):
    for number, data in enumerate(maps(0), 1):
        hook._run_hook([str(call(job, 1, number, data, current=14))])
    data = maps(1)[0]
    star = call(job, 2, 1, data, current=24)
    assert hook._run_hook([str(star)]) == 0
    assert read_calls(job / FOLDER)[-1]["state"] == "separated"
    # What only this iteration has is neither shared nor own: it stays as RELION made it.
    k = np.fft.fftfreq(N) * N
    r = np.rint(np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + np.arange(N // 2 + 1) ** 2))
    new = (r >= 9) & (r <= 12)
    before, after = (np.fft.rfftn(m)[new] for m in (data, result(star)))
    # (But for the edges of the local weights, which reach over.)
    alike = np.vdot(before, after).real / np.linalg.norm(before) / np.linalg.norm(after)
    assert alike > 0.98
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=0.05)


def test_half_sets_do_not_mix(job):
    for half in ("_half1", "_half2"):
        for number, data in enumerate(maps(0), 1):
            hook._run_hook([str(call(job, 1, number, data, half=half))])
    assert len(earlier_classes(job / FOLDER, 1, 2, N)) == 2
    assert earlier_classes(job / FOLDER, 0, 2, N) == ()


def test_a_continued_run_does_not_use_what_came_later(job):
    for iteration in (1, 2, 3, 4):
        for number, data in enumerate(maps(iteration), 1):
            hook._run_hook([str(call(job, iteration, number, data))])
    assert {one.iteration for one in earlier_classes(job / FOLDER, 0, 4, N)} == {3}
    star = call(job, 3, 1, maps(9)[0], root="run_ct2")
    assert hook._run_hook([str(star)]) == 0
    assert read_calls(job / FOLDER)[4]["state"] == "separated"
    # Class 1 of iteration 4 was of the run that is no more.
    assert [one.number for one in earlier_classes(job / FOLDER, 0, 5, N)] == [2]


def test_off_records_only(job, monkeypatch):
    stars = two_iterations(job)
    monkeypatch.setenv("OCCUPY_RELION_OFF", "1")
    before = result(stars[0])
    hook._run_hook([str(stars[0])])
    assert np.array_equal(result(stars[0]), before)


def test_weights_per_shell(job):
    star = call(job, 1, 1, maps()[0])
    weights = read_weights(ReconstructionCall.read(star))
    assert weights.weight[:SHELLS] == pytest.approx(100)
    assert weights.factor[:SHELLS] == pytest.approx(400 / 401)


def test_overrides(tmp_path):
    assert HookOptions.read(tmp_path, {}) == HookOptions()
    (tmp_path / "occupy_relion.yaml").write_text("# a comment\nbudget: 0.5\noff: yes\n")
    found = HookOptions.read(tmp_path, {"OCCUPY_RELION_BUDGET": "0.1"})
    assert (found.budget, found.off) == (0.1, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [("budget 3", "name: value"), ("budget: much", "number"), ("off: maybe", "yes or no")],
)
def test_bad_overrides(tmp_path, text, message):
    (tmp_path / "occupy_relion.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        HookOptions.read(tmp_path, {})


def test_adjusted_rand_index():
    assert adjusted_rand("aabbcc", "xxyyzz") == 1
    rng = np.random.default_rng(0)
    a, b = rng.integers(3, size=3000), rng.integers(4, size=3000)
    assert abs(adjusted_rand(list(map(str, a)), list(map(str, b)))) < 0.01
    # By hand: pairs 2; rows 3 + 3, columns 2 + 4... of 6 particles.
    assert adjusted_rand("aaabbb", "aabbbb") == pytest.approx((4 - 6 * 7 / 15) / (6.5 - 6 * 7 / 15))


def test_what_particles_did(job):
    for number, classes in enumerate(("1122", "1222"), 1):
        rows = "".join(f"{i}@p.mrcs {k} 0.5\n" for i, k in enumerate(classes))
        head = "data_particles\n\nloop_\n_rlnImageName\n_rlnClassNumber\n_rlnMaxValueProbDistribution\n"
        (job / f"run_it00{number}_data.star").write_text(head + rows)
    shares = "data_model_classes\n\nloop_\n_rlnReferenceImage\n_rlnClassDistribution\na.mrc 0.4\nb.mrc 0.6\n"
    (job / "run_it002_model.star").write_text(shares)
    found = _class_iterations(job)
    assert [one.sizes for one in found] == [{1: 2, 2: 2}, {1: 1, 2: 3}]
    assert [one.share(2) for one in found] == [0.5, 0.6]
    assert "2\t2\t3\t0.6\t" in _table(found, [separated(2, 1.0) | {"iteration": 2}])
    assert found[0].stability is None
    assert found[1].stability == pytest.approx(adjusted_rand("1122", "1222"))


def separated(number: int, energy: float) -> dict[str, object]:
    call = {"iteration": 9, "class": number, "state": "separated", "particles": 100.0}
    return call | {"energy": 100 * energy}


def test_warnings():
    good = [_ClassIteration(9, {1: 500, 2: 500}, {1: 0.5, 2: 0.5}, 0.9, 0.99)]
    assert _run_warnings(good, [separated(1, 6.0), separated(2, 8.0)]) == []
    # The soft share counts, for the map is a soft sum.
    assert (
        _run_warnings([_ClassIteration(9, {1: 998, 2: 2}, {1: 0.6, 2: 0.4}, 0.9, 0.99)], [separated(1, 6.0)])
        == []
    )
    bad = [_ClassIteration(9, {1: 998, 2: 2}, {1: 0.99, 2: 0.01}, 0.9, 0.99)]
    assert [n.code for n in _run_warnings(bad, [separated(1, 6.0), separated(2, 8.0)])] == ["collapse"]
    assert [n.code for n in _run_warnings(good, [separated(1, 0.5), separated(2, 0.3)])] == ["self-bias"]


def test_the_command_line():
    words = _class3d_words(Class3D("p.star", "ref.mrc", classes=3, limit=20, gpu="0:1"))
    assert words[0] == "relion_refine"
    assert "--external_reconstruct" in words
    assert words[words.index("--strict_highres_exp") + 1] == "20"
    assert words[words.index("--gpu") + 1] == "0:1"
    assert _class3d_words(Class3D("p", "r", processes=5))[:4] == ["mpirun", "-n", "5", "relion_refine_mpi"]
    near = _class3d_words(Class3D("p", "r", local=1.5))
    assert near[near.index("--sigma_ang") + 1] == "1.5"
    assert "--skip_align" in words
    assert "--skip_align" not in near
    for wrong in ({"classes": 0}, {"local": 0}, {"limit": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            _class3d_words(Class3D("p", "r", **wrong))
    text = guide(Class3D("my particles.star", "ref.mrc"), "/opt/bin/occupy-relion-reconstruct")
    assert "'my particles.star'" in text
    assert "export RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE=/opt/bin/occupy-relion-reconstruct" in text
    assert "#SBATCH" in text


def test_records_survive_a_torn_line(job):
    two_iterations(job)
    with (job / FOLDER / "calls.jsonl").open("a") as stream:
        stream.write('{"iteration": 2, "cl')
    assert len(read_calls(job / FOLDER)) == 2
    json.dumps(read_calls(job / FOLDER))


def last_iteration(folder: Path) -> list[Path]:
    (folder / "run_it001_optimiser.star").write_text("data_optimiser_general\n\n_rlnNumberOfIterations 2\n")
    return two_iterations(folder)


def test_the_report_is_written_at_the_end(job, capfd):
    stars = last_iteration(job)
    hook._run_hook([str(stars[1])])
    assert not (job / FOLDER / "classes.png").exists()
    hook._run_hook([str(stars[0])])
    assert all((job / FOLDER / f"classes.{suffix}").stat().st_size for suffix in ("png", "tsv", "json"))
    assert "classes.png" in capfd.readouterr().out


def test_a_report_that_cannot_be_written_stops_nothing(job, capfd):
    stars = last_iteration(job)
    (job / FOLDER / "classes.png").mkdir()
    assert [hook._run_hook([str(star)]) for star in stars] == [0, 0]
    assert "no report: " in capfd.readouterr().out
    assert read_calls(job / FOLDER)[-1]["state"] == "separated"
