"""Jobs with occupy in RELION's loop: unregularised maps, and which maps a set is read in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from hook_calls import N, call, gridding
from occupy.io.checksum import written
from occupy.io.loop import (
    _SUFFIX,
    ReconstructionCall,
    _is_drawn,
    drawn_notice,
    unregularised_name,
)
from occupy.io.mrc import read_map, write_map
from occupy.io.sets import find_set
from occupy.numerics.spectra import map_of, radii, spectrum_of
from occupy.volume import Volume

FINEST = 10


def smooth(seed: int) -> np.ndarray:
    """Return a map without anything finer than `FINEST` shells that vanishes towards the edge."""
    spectrum = spectrum_of(np.random.default_rng(seed).normal(size=(N,) * 3))
    spectrum[radii(N) > FINEST - 4] = 0
    z, y, x = np.indices((N, N, N)) - N // 2
    data = map_of(spectrum) * np.exp(-(x**2 + y**2 + z**2) / 60)
    return data.astype(np.float32)


def grids(star: Path, data: np.ndarray, weight: np.ndarray, padding: int) -> None:
    """Write data and weights as RELION would have summed them up, on its padded grid."""
    m = N * padding
    wide = np.pad(data * gridding(N, padding), (m - N) // 2)
    sums = np.fft.rfftn(np.fft.ifftshift(wide)) / N**2 * N * weight / N
    stem = star.name.removesuffix(".star")
    for name, values in (("data_real", sums.real), ("data_imag", sums.imag), ("weight", weight)):
        path = star.with_name(f"{stem}_{name}.mrc")
        write_map(path, Volume.from_array(values.astype(np.float32), 1.0))
    star.write_text(star.read_text().replace("PaddingFactor 1.0", f"PaddingFactor {padding}.0"))


@pytest.mark.parametrize("padding", [1, 2])
def test_a_map_comes_back_whatever_the_weights(tmp_path, padding):
    data = smooth(0)
    star = call(tmp_path, 1, 1, data, current=2 * FINEST)
    m = N * padding
    weight = np.random.default_rng(1).uniform(50, 500, (m, m, m // 2 + 1))
    grids(star, data, weight, padding)
    found = ReconstructionCall.read(star).reconstruct()
    assert found.dtype == np.float32
    z, y, x = np.indices((N, N, N)) - N // 2
    inside = x**2 + y**2 + z**2 < (N / 2 - 3) ** 2
    # (What the window spreads beyond the last shell is cut off.)
    assert np.abs(found - data)[inside].max() < 0.02 * np.abs(data).max()
    assert not found[x**2 + y**2 + z**2 > (N / 2) ** 2].any()


def test_places_without_weight_are_zero_not_infinite(tmp_path):
    star = call(tmp_path, 1, 1, smooth(0), current=2 * FINEST)
    weight = np.full((N, N, N // 2 + 1), 100.0)
    weight[:, :, 4:] = 0
    grids(star, smooth(0), weight, 1)
    assert np.isfinite(ReconstructionCall.read(star).reconstruct()).all()
    grids(star, smooth(0), 0 * weight, 1)
    assert not ReconstructionCall.read(star).reconstruct().any()


@pytest.mark.parametrize("damage", ["missing", "short", "padding"])
def test_what_cannot_be_reconstructed_is_refused_in_one_line(tmp_path, damage):
    star = call(tmp_path, 1, 1, smooth(0))
    real = star.with_name(star.stem + "_data_real.mrc")
    if damage == "missing":
        real.unlink()
    elif damage == "short":
        real.write_bytes(real.read_bytes()[:2000])
    else:
        star.write_text(star.read_text().replace("PaddingFactor 1.0", "PaddingFactor 1.5"))
    with pytest.raises(ValueError, match="padding of 1.5" if damage == "padding" else "data_real") as caught:
        ReconstructionCall.read(star).reconstruct()
    assert "\n" not in str(caught.value)


@pytest.fixture
def drawn(tmp_path):
    """Return a job in which occupy drew the two classes of iteration 2 towards each other."""
    job = tmp_path / "Class3D" / "job001"
    job.mkdir(parents=True)
    for number in (1, 2):
        star = call(job, 2, number, smooth(number), current=2 * FINEST)
        state = {"state": "separated"} if number == 1 else {"state": "empty"}
        ReconstructionCall.read(star).record(state)
        write_map(job / f"run_it002_class00{number}.mrc", Volume.from_array(0.5 * smooth(3), 8.0))
    rows = "".join(f"Class3D/job001/run_it002_class00{k}.mrc {w}\n" for k, w in ((1, 0.9), (2, 0.1)))
    shells = "data_model_class_1\n\nloop_\n_rlnSpectralIndex\n_rlnSsnrMap\n0 5\n1 4\n\n"
    (job / "run_it002_model.star").write_text(
        "data_model_general\n\n_rlnPixelSize 8.0\n_rlnNrClasses 2\n\ndata_model_classes\n\nloop_\n"
        f"_rlnReferenceImage\n_rlnClassDistribution\n{rows}\n{shells}{shells.replace('class_1', 'class_2')}"
    )
    return job


@pytest.mark.parametrize("way", ["folder", "star", "maps"])
def test_a_set_is_read_in_unregularised_maps(drawn, way):
    inputs = {
        "folder": [drawn],
        "star": [drawn / "run_it002_model.star"],
        "maps": sorted(drawn.glob("run_it002_class00?.mrc")),
    }[way]
    found = find_set(inputs)
    assert found.unregularised
    assert any("unregularised" in line for line in found.describe())
    for number, entry in enumerate(found.maps, 1):
        assert entry.name == f"run_it002_class00{number}"
        assert entry.ssnr is None
        assert entry.number == number
        data = read_map(entry.path).data
        assert np.corrcoef(data.ravel(), smooth(number).ravel())[0, 1] > 0.99
        assert read_map(entry.path).voxel_size == pytest.approx((8, 8, 8))
    if way != "maps":
        assert [entry.weight for entry in found.maps] == [0.9, 0.1]


def test_a_moved_job_is_read_too(drawn, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(drawn, moved)
    assert [entry.path.parent for entry in find_set([moved]).maps] == [moved, moved]


def test_maps_that_are_there_are_used(drawn):
    paths = [entry.path for entry in find_set([drawn]).maps]
    for path in drawn.glob("*external_reconstruct*"):
        path.unlink()
    shutil.rmtree(drawn / "occupy_relion")
    assert [entry.path for entry in find_set([drawn]).maps] == paths


def test_an_iteration_done_again_is_made_again(drawn):
    before = read_map(find_set([drawn]).maps[0].path).data.copy()
    call(drawn, 2, 1, 2 * smooth(1), current=2 * FINEST)
    after = read_map(find_set([drawn]).maps[0].path).data
    assert np.allclose(after, 2 * before, atol=1e-3 * np.abs(before).max())


def test_where_nothing_is_left_it_says_what_to_run(drawn):
    for path in drawn.glob("*external_reconstruct*"):
        path.unlink()
    with pytest.raises(
        ValueError, match=r"relion_reconstruct --i .*run_it002_data\.star --class 1 --ctf --o"
    ) as found:
        find_set([drawn / "run_it002_model.star"])
    assert "\n" not in str(found.value)
    assert f"run_it002_class001{_SUFFIX}" in str(found.value)


def test_other_jobs_are_read_as_they_are(drawn):
    shutil.rmtree(drawn / "occupy_relion")
    found = find_set([drawn])
    assert not found.unregularised
    assert found.maps[0].path.name == "run_it002_class001.mrc"
    assert found.maps[0].ssnr == (5, 4)


@pytest.fixture
def recorded(drawn):
    """Return such a job whose record says which map its call wrote."""
    star = drawn / "run_it002_class001_external_reconstruct.star"
    result = star.with_suffix(".mrc")
    about = {"file": result.name} | written(result)
    ReconstructionCall.read(star).record({"state": "separated", "map": about})
    assert find_set([drawn]).unregularised
    return drawn


def test_a_job_done_again_without_occupy_is_read_as_it_is(recorded):
    assert _is_drawn(recorded / "run_it002_class001.mrc")
    # RELION's own program was called for the same class.
    call(recorded, 2, 1, 2 * smooth(1), current=2 * FINEST)
    assert not _is_drawn(recorded / "run_it002_class001.mrc")
    found = find_set([recorded])
    assert not found.unregularised
    assert found.maps[0].path.name == "run_it002_class001.mrc"
    assert drawn_notice(found.maps[0].path) is None


@pytest.mark.parametrize("external", [0, 1])
def test_a_job_done_again_without_another_program_is_read_as_it_is(recorded, external):
    text = f"data_optimiser_general\n\n_rlnDoExternalReconstruct {external}\n\n"
    (recorded / "run_it002_optimiser.star").write_text(text)
    assert find_set([recorded]).unregularised == bool(external)


@pytest.mark.parametrize("about", [None, "x", {"file": 3}, {"file": "a\0b", "bytes": 1}])
def test_a_record_that_does_not_tell_counts(drawn, about):
    star = drawn / "run_it002_class001_external_reconstruct.star"
    ReconstructionCall.read(star).record({"state": "separated", "map": about})
    assert _is_drawn(drawn / "run_it002_class001.mrc")


def test_one_such_map_by_itself_is_warned_of(drawn):
    path = drawn / "run_it002_class001.mrc"
    notice = drawn_notice(path)
    assert _is_drawn(path)
    assert notice is not None
    assert unregularised_name(path).name in notice.text
    assert drawn_notice(drawn / "run_it002_class001_external_reconstruct.mrc") is None
    assert drawn_notice(drawn / "run_it001_class001.mrc") is None
