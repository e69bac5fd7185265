"""Finding the maps of an experiment, in small stand-ins for what RELION, cryoSPARC and cryoDRGN leave."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from occupy.errors import InputError
from occupy.io.mrc import write_map
from occupy.io.runs import Run
from occupy.io.sets import MapSet, find_set
from occupy.volume import Volume

BOX = 8


def put_map(path: Path, voxel_size: float = 2.0, box: int = BOX) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_map(path, Volume.from_array(np.ones((box,) * 3, np.float32), voxel_size))
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def loop(name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"_{column} #{i} \n" for i, column in enumerate(columns, start=1))
    return f"\ndata_{name}\n\nloop_ \n{head}" + "".join(" ".join(map(str, r)) + " \n" for r in rows) + " \n"


def pairs(name: str, **values: object) -> str:
    return (
        f"\ndata_{name}\n\n" + "".join(f"_{key}          {value}\n" for key, value in values.items()) + " \n"
    )


def model_text(job: str, iteration: int, weights: Sequence[float], version: str, pixel: float | None) -> str:
    """Write a model.star in the manner of a version ('' is 3.0)."""
    comment = f"\n# version {version}\n" if version else ""
    general = {"rlnReferenceDimensionality": 3, "rlnOriginalImageSize": BOX, "rlnTau2FudgeFactor": 4.0}
    general |= {"rlnNrClasses": len(weights), "rlnNrBodies": 1} | ({"rlnPixelSize": pixel} if pixel else {})
    columns = ("rlnReferenceImage", "rlnClassDistribution", "rlnEstimatedResolution")
    rows = [(f"{job}/run_it{iteration:03d}_class{k:03d}.mrc", w, 10 + k) for k, w in enumerate(weights, 1)]
    text = comment + pairs("model_general", **general) + comment + loop("model_classes", columns, rows)
    for k in range(1, len(weights) + 1):
        shells = [(i, 100.0 * k / (1 + i), 0.5 / (1 + i), 1e-6) for i in range(BOX // 2 + 1)]
        names = ("rlnSpectralIndex", "rlnSsnrMap", "rlnReferenceTau2", "rlnReferenceSigma2")
        text += comment + loop(f"model_class_{k}", names, shells)
    return text


def put_iteration(
    project: Path,
    iteration: int,
    job: str = "Class3D/job007",
    weights: Sequence[float] = (0.5, 0.3, 0.2),
    version: str = "30001",
    pixel: float | None = 2.0,
) -> Path:
    folder = project / job
    for k in range(1, len(weights) + 1):
        put_map(folder / f"run_it{iteration:03d}_class{k:03d}.mrc")
    model = folder / f"run_it{iteration:03d}_model.star"
    model.write_text(model_text(job, iteration, weights, version, pixel))
    folder.joinpath(f"run_it{iteration:03d}_data.star").write_text(data_text(version))
    general = {
        f"rln{what}StarFile": f"{job}/run_it{iteration:03d}_{name}.star"
        for what, name in (("Model", "model"), ("ExperimentalData", "data"))
    }
    optimiser = "# RELION optimiser; version\n# --o é\n" + pairs("optimiser_general", **general)
    folder.joinpath(f"run_it{iteration:03d}_optimiser.star").write_text(optimiser, encoding="utf-8")
    return model


def data_text(version: str) -> str:
    classes = (1, 1, 1, 3, 1, 2)
    if not version:  # 3.0: no optics, one nameless block
        rows = [(f"{i}@a.mrcs", 50000.0, 10.0, k) for i, k in enumerate(classes)]
        return loop("", ("rlnImageName", "rlnMagnification", "rlnDetectorPixelSize", "rlnClassNumber"), rows)
    optics = loop("optics", ("rlnOpticsGroup", "rlnImagePixelSize"), [(1, 2.0)])
    rows_31 = [(f"{i}@a.mrcs", k) for i, k in enumerate(classes)]
    return optics + loop("particles", ("rlnImageName", "rlnClassNumber"), rows_31)


def codes(found: MapSet) -> set[str]:
    return {notice.code for notice in found.notices}


def file_names(found: MapSet) -> list[str]:
    return [entry.path.name for entry in found.maps]


def refusal(*inputs: str | Path) -> str:
    with pytest.raises(InputError) as caught:
        find_set(inputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- RELION -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["", "30001", "40001", "50001"])
@pytest.mark.parametrize("which", ["run_it012_model.star", "run_it012_optimiser.star", ""])
def test_the_same_set_from_model_optimiser_and_folder(tmp_path: Path, version: str, which: str) -> None:
    put_iteration(tmp_path, 12, version=version)
    found = find_set([tmp_path / "Class3D/job007" / which], count_particles=True)
    assert (found.kind, found.iteration, found.box, found.pixel_size, found.tau_fudge, found.base) == (
        "relion", 12, BOX, 2.0, 4.0, 1,
    )  # fmt: skip
    assert found.notices == ()
    assert [entry.number for entry in found.maps] == [1, 2, 3]
    assert [entry.name for entry in found.maps] == [f"run_it012_class00{k}" for k in (1, 2, 3)]
    assert [entry.weight for entry in found.maps] == [0.5, 0.3, 0.2]
    assert [entry.particles for entry in found.maps] == [4, 1, 1]
    assert [entry.resolution for entry in found.maps] == [11, 12, 13]
    second = found.maps[1]
    assert second.ssnr == (200.0, 100.0, pytest.approx(200 / 3), 50.0, 40.0)
    assert second.tau2 is not None
    assert second.tau2[:2] == (0.5, 0.25)
    assert second.sigma2 == (1e-6,) * 5


@pytest.mark.parametrize("version", ["", "30001"])
def test_pixel_size_of_the_particles(tmp_path: Path, version: str) -> None:
    # Detector pixel 10 µm at 50000 x is 2 Å.
    model = put_iteration(tmp_path, 3, version=version, pixel=None)
    assert find_set([model]).pixel_size == 2.0
    for path in model.parent.glob("*.mrc"):
        put_map(path, 3.0)
    found = find_set([model])
    assert found.pixel_size == 2.0
    assert codes(found) == {"pixel-size"}


def test_the_data_are_read_only_to_count(tmp_path: Path) -> None:
    model = put_iteration(tmp_path, 3)
    model.with_name("run_it003_data.star").write_text("damaged")
    assert all(entry.particles is None for entry in find_set([model]).maps)
    with pytest.raises(InputError, match="not a STAR file"):
        find_set([model], count_particles=True)
    model.with_name("run_it003_data.star").unlink()
    assert codes(find_set([model], count_particles=True)) == {"no-counts"}


def test_the_last_complete_iteration(tmp_path: Path) -> None:
    job = tmp_path / "Class3D/job007"
    for iteration in (0, 8, 9, 10):
        put_iteration(tmp_path, iteration)
    assert find_set([job]).iteration == 10
    put_map(job / "run_it011_class001.mrc")
    found = find_set([job])
    assert (found.iteration, codes(found)) == (10, {"incomplete-iteration"})
    assert "no model.star yet" in found.notices[0].text
    cut(job / "run_it010_class003.mrc")
    found = find_set([job])
    assert (found.iteration, codes(found)) == (9, {"incomplete-iteration"})
    assert "run_it010_class003.mrc" in found.notices[0].text
    assert "truncated" in refusal(job / "run_it010_model.star")
    (job / "run_it009_class002.mrc").unlink()
    assert find_set([job]).iteration == 8
    model = job / "run_it008_model.star"
    model.write_text(model.read_text()[:600])
    assert "no complete iteration" in refusal(job)
    assert codes(find_set([job / "run_it000_model.star"])) == {"iteration-0"}


def test_a_moved_job(tmp_path: Path) -> None:
    put_iteration(tmp_path / "old", 5)
    moved = tmp_path / "new" / "copy"
    (tmp_path / "new").mkdir()
    (tmp_path / "old/Class3D/job007").rename(moved)
    found = find_set([moved / "run_it005_optimiser.star"], count_particles=True)
    assert found.notices == ()
    assert all(entry.path.parent == moved for entry in found.maps)
    assert found.maps[0].particles == 4
    # The name in the STAR file now leads to another job: the map beside it is still the right one.
    put_iteration(tmp_path / "new", 5)
    found = find_set([moved])
    assert codes(found) == {"moved-job"}
    assert all(entry.path.parent == moved for entry in found.maps)


def test_maps_elsewhere_in_the_project_and_outside(tmp_path: Path) -> None:
    project = tmp_path / "project"
    model = put_iteration(project, 5)
    project.joinpath("default_pipeline.star").write_text("data_pipeline_general\n_rlnPipeLineJobCounter 8\n")
    (project / "Other").mkdir()
    for path in model.parent.glob("*.mrc"):
        path.rename(project / "Other" / path.name)
    model.write_text(model.read_text().replace("Class3D/job007/run", "Other/run"))
    found = find_set([model])
    assert found.notices == ()
    assert found.maps[0].path.parent == project / "Other"
    (project / "Other").rename(tmp_path / "Other")
    assert "neither below the project folder nor beside" in refusal(model)
    model.write_text(model.read_text().replace("Other/run", f"{tmp_path}/Other/run"))
    found = find_set([model])
    assert codes(found) == {"outside-project"}
    assert str(project) in found.notices[0].text


def test_one_class_is_no_set(tmp_path: Path) -> None:
    model = put_iteration(tmp_path, 5, weights=(1.0,))
    text = model.read_text()
    start, end = text.index("\ndata_model_classes"), text.index("\n# version 30001\n\ndata_model_class_1")
    plain = pairs("model_classes", rlnReferenceImage="Class3D/job007/run_it005_class001.mrc")
    model.write_text(text[:start] + plain + text[end:])
    assert "only one map" in refusal(model)


def test_other_star_files_and_jobs(tmp_path: Path) -> None:
    model = put_iteration(tmp_path, 5)
    assert "give a *_model.star" in refusal(model.with_name("run_it005_data.star"))
    assert f"name a job, for example {model.parent}" in refusal(tmp_path)
    model.write_text(model.read_text().replace("Dimensionality          3", "Dimensionality          2"))
    assert "2D classification" in refusal(model)
    model.rename(model.with_name("run_model.star"))
    assert "without classes" in refusal(model.parent)


def test_real_jobs(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("relion_50s") / "Class3D"
    for job, iteration, fudge in (("job004", 25, 2.0), ("job001", 15, 4.0)):
        found = find_set([folder / job], count_particles=True)
        assert (found.kind, found.iteration, found.tau_fudge) == ("relion", iteration, fudge)
        assert (found.pixel_size, found.box, found.notices) == (2.75, 128, ())
        assert sum(entry.weight or 0 for entry in found.maps) == pytest.approx(1, abs=1e-5)
        assert sum(entry.particles or 0 for entry in found.maps) == 4000
        assert [len(entry.ssnr or ()) for entry in found.maps] == [65] * 4
        assert (
            find_set([folder / job / f"run_it{iteration:03d}_optimiser.star"])
            .maps[0]
            .path.samefile(found.maps[0].path)
        )
    lines = find_set([folder / "job004"]).describe()
    assert lines[0].startswith("4 RELION classes of")
    assert "iteration 25" in lines[0]
    assert lines[1] == "box 128, voxel size 2.75 Å, T = 2"
    assert lines[2] == "  1: run_it025_class001, 32.7 %, 15.3 Å"


# --- cryoSPARC ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["J12", "cryosparc_P5_J286"])
@pytest.mark.parametrize("final", ["_final_volume", "_00042_volume", "_volume"])
def test_cryosparc_classes(tmp_path: Path, prefix: str, final: str) -> None:
    for k in range(11):
        for rest in (final, "_00005_volume"):
            put_map(tmp_path / f"{prefix}_class_{k:02d}{rest}.mrc")
        for rest in ("_volume_mask", "_volume_half_A", "_volume_sharp"):
            (tmp_path / f"{prefix}_class_{k:02d}{final.removesuffix('_volume')}{rest}.mrc").touch()
    (tmp_path / f"{prefix}_mask_volume.mrc").touch()
    found = find_set([tmp_path])
    assert (found.kind, found.base, found.pixel_size, found.box) == ("cryosparc", 0, 2.0, BOX)
    assert file_names(found) == [f"{prefix}_class_{k:02d}{final}.mrc" for k in range(11)]
    assert [entry.number for entry in found.maps] == list(range(11))
    assert found.iteration == (42 if "42" in final else None)
    assert found.notices == ()


def test_cryosparc_iterations(tmp_path: Path) -> None:
    for iteration in (9, 10):
        for k in (0, 1):
            put_map(tmp_path / f"J3_{iteration:04d}_class_{k}_volume.mrc")
    assert find_set([tmp_path]).iteration == 10
    cut(tmp_path / "J3_0010_class_1_volume.mrc")
    found = find_set([tmp_path])
    assert (found.iteration, codes(found)) == (9, {"incomplete-iteration"})
    (tmp_path / "J3_0009_class_0_volume.mrc").unlink()
    assert "no iteration with all 2 classes" in refusal(tmp_path)


def test_cryosparc_refinements_and_several_jobs(tmp_path: Path) -> None:
    for rest in ("004_volume_map", "005_volume_map", "005_volume_map_sharp", "005_volume_map_half_A"):
        put_map(tmp_path / f"J12_{rest}.mrc")
    assert "only one map" in refusal(tmp_path)
    assert "J12_005_volume_map.mrc" in refusal(tmp_path)
    put_map(tmp_path / "J15_007_volume_map.mrc")
    assert file_names(find_set([tmp_path])) == ["J12_005_volume_map.mrc", "J15_007_volume_map.mrc"]
    for job in ("J1", "J2"):
        put_map(tmp_path / f"{job}_class_00_final_volume.mrc")
    assert "more than one job (J1, J2)" in refusal(tmp_path)


# --- RECOVAR, and series of frames ---------------------------------------------------------------------


def test_recovar_centres_are_found_from_every_folder_above(tmp_path: Path) -> None:
    kmeans = tmp_path / "output" / "analysis_10" / "kmeans"
    for number in range(11):
        for rest in ("", "_half1_unfil", "_half2_unfil"):
            put_map(kmeans / f"center{number:03d}{rest}.mrc")
    (kmeans / "centers.txt").write_text("0 0\n" * 11)
    for place in (kmeans, kmeans.parent, kmeans.parent.parent):
        found = find_set([place])
        assert (found.kind, found.base) == ("recovar", 0)
        assert file_names(found) == [f"center{number:03d}.mrc" for number in range(11)]
        assert [entry.number for entry in found.maps] == list(range(11))
    path = kmeans.parent / "traj000"
    for number in range(3):
        put_map(path / f"state{number:03d}.mrc")
    assert file_names(find_set([path])) == ["state000.mrc", "state001.mrc", "state002.mrc"]
    for number in range(2):
        put_map(tmp_path / "output" / "analysis_4" / "kmeans" / f"center{number:03d}.mrc")
    assert "analysis_4/kmeans" in refusal(tmp_path / "output")


@pytest.mark.parametrize("place", ["analysis_10/data", "analysis_10"])
def test_recovar_clusters_have_the_shares_of_their_particles(tmp_path: Path, place: str) -> None:
    kmeans = tmp_path / "analysis_10" / "kmeans"
    for number in range(3):
        # Its first versions called them so.
        put_map(kmeans / (f"center{number:03d}.mrc" if "data" in place else f"vol{number:04d}.mrc"))
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20 + [-1] * 7, dtype=np.int32)
    result = tmp_path / place / "kmeans_result.pkl"
    result.parent.mkdir(exist_ok=True)
    result.write_bytes(pickle.dumps({"labels": labels, "centers": np.zeros((3, 10), np.float32)}))
    found = find_set([kmeans.parent])
    assert (found.kind, found.base, codes(found)) == ("recovar", 0, set())
    assert [entry.particles for entry in found.maps] == [50, 30, 20]
    assert [entry.weight for entry in found.maps] == pytest.approx([0.5, 0.3, 0.2])
    # The same file says which class each particle is in, for selecting and comparing.
    assert Run.read(kmeans.parent).labels.tolist() == labels.tolist()


def test_recovar_without_readable_labels_has_equal_shares_and_says_so(tmp_path: Path) -> None:
    for number in range(3):
        put_map(tmp_path / "kmeans" / f"center{number:03d}.mrc")
    (tmp_path / "data").mkdir()
    result = tmp_path / "data" / "kmeans_result.pkl"
    for content in (
        {"labels": Bomb()},
        {"labels": np.arange(5), "centers": np.zeros((5, 2))},
        {"centers": 1},
    ):
        result.write_bytes(pickle.dumps(content))
        found = find_set([tmp_path])
        assert codes(found) == {"no-shares"}
        assert {entry.weight for entry in found.maps} == {None}


@pytest.mark.parametrize("stem", ["J25_component_0_frame_", "J31_series_000_frame_", "frame_", "volume"])
def test_a_series_of_frames_is_a_set_in_the_order_of_its_numbers(tmp_path: Path, stem: str) -> None:
    for number in (0, 1, 2, 10):
        put_map(tmp_path / f"{stem}{number}.mrc")
    found = find_set([tmp_path])
    assert file_names(found) == [f"{stem}{number}.mrc" for number in (0, 1, 2, 10)]
    assert [entry.number for entry in found.maps] == [0, 1, 2, 10]
    assert {entry.weight for entry in found.maps} == {None}


@pytest.mark.parametrize(
    ("job", "series"),
    [("J504", "J504_series_{:03d}"), ("J25", "cryosparc_P3_J25_component_{:03d}")],
    ids=["3D Flex", "3D Variability"],
)
def test_frames_of_a_cryosparc_job_are_found_in_the_folder_of_their_series(
    tmp_path: Path, job: str, series: str
) -> None:
    # Beside them lies the consensus, which is none of the frames.
    put_map(tmp_path / job / f"{job}_volume_map.mrc")
    first, second = series.format(0), series.format(1)
    for number in (0, 1, 2, 10):
        put_map(tmp_path / job / first / f"{first}_frame_{number:03d}.mrc")
    found = find_set([tmp_path / job])
    assert (found.kind, found.base, len(found.maps)) == ("cryosparc", 0, 4)
    assert found.maps == find_set([tmp_path / job / first]).maps
    for number in range(2):
        put_map(tmp_path / job / second / f"{second}_frame_{number:03d}.mrc")
    assert f"2 series ({first}, {second}): name one" in refusal(tmp_path / job)
    assert len(find_set([tmp_path / job / second / f"{second}_*"]).maps) == 2


def test_cryostar_volumes_are_those_of_the_last_evaluation(tmp_path: Path) -> None:
    density = tmp_path / "density_10073"
    for step, axes in (("0000_0000000", (1,)), ("0004_0014470", (1,)), ("0010_0030000", ())):
        (density / step).mkdir(parents=True)
        (density / step / "z.npy").touch()
        for axis in axes:
            for number in range(10):
                put_map(density / step / f"vol_pca_{axis}_{number:03d}.mrc")
    found = find_set([density])
    assert (found.kind, found.base, found.source.name) == ("cryostar", 0, "0004_0014470")
    assert [entry.number for entry in found.maps] == list(range(10))
    assert {entry.weight for entry in found.maps} == {None}
    put_map(density / "0004_0014470" / "vol_pca_2_000.mrc")
    assert "2 series (vol_pca_1, vol_pca_2): name one" in refusal(density)


def test_classes_of_cryosparc_have_the_shares_that_its_groups_say(tmp_path: Path) -> None:
    group = "group:\n  name: particles_class_{}\n  type: particle\nresults:\n  blob:\n"
    group += "    metafile: '>J42_00042_particles.cs'\n    num_items: {}\n    type: particle.blob\n"
    for number, count in enumerate((300, 100)):
        put_map(tmp_path / f"J42_class_{number:02d}_00042_volume.mrc")
        (tmp_path / f"J42_particles_class_{number}.csg").write_text(group.format(number, count))
    assert [entry.weight for entry in find_set([tmp_path]).maps] == [0.75, 0.25]
    # A group that is missing or no group at all leaves shares unknown.
    for damaged in ("results: [", "[" * 3000, group.format(1, ".inf"), "results: {blob: 3}", "\x00", "3"):
        (tmp_path / "J42_particles_class_1.csg").write_text(damaged)
        assert [entry.weight for entry in find_set([tmp_path]).maps] == [None, None]


# --- cryoDRGN -----------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("something was unpickled",)


def put_volumes(folder: Path, numbers: Sequence[int], rows: int | None = None) -> Path:
    for number in numbers:
        put_map(folder / f"vol_{number:03d}.mrc")
    folder.joinpath("labels.pkl").write_bytes(pickle.dumps(Bomb()))
    if rows is not None:
        folder.joinpath("centers_ind.txt").write_text("".join(f"{7 * i}\n" for i in range(rows)))
    return folder


@pytest.mark.parametrize(
    ("name", "numbers", "rows", "base", "doubts"),
    [
        ("kmeans4", range(4), 4, 0, set()),
        ("kmeans4", range(1, 5), 4, 1, set()),
        ("kmeans4", range(1, 5), None, 1, set()),
        ("kmeans4", [2, 3, 4], 4, 1, {"missing-volumes"}),
        ("kmeans4", [0, 3], 4, 0, {"missing-volumes"}),
        ("kmeans4", [1, 2, 3], 4, None, {"missing-volumes", "numbering"}),
        ("kmeans4", [1, 2, 3], None, None, {"missing-volumes", "numbering"}),
        ("kmeans4", range(5), 4, None, {"numbering"}),
        ("picked", [1, 2, 3], None, 1, set()),
        ("picked", [5, 7], None, None, {"numbering"}),
    ],
)
def test_numbering_of_cryodrgn_volumes(
    tmp_path: Path, name: str, numbers: Sequence[int], rows: int | None, base: int | None, doubts: set[str]
) -> None:
    folder = put_volumes(tmp_path / "analyze.49" / name, numbers, rows)
    found = find_set([folder])
    assert (found.kind, found.base, found.iteration, codes(found)) == ("cryodrgn", base, 49, doubts)
    assert [entry.number for entry in found.maps] == list(numbers)


def test_cryodrgn_folders(tmp_path: Path) -> None:
    analysis = tmp_path / "analyze.49"
    put_volumes(analysis / "pc1", range(10))
    put_volumes(analysis / "kmeans3", range(1, 4))
    assert find_set([analysis]).maps == find_set([analysis / "kmeans3"]).maps
    put_volumes(analysis / "kmeans2", range(2))
    assert "kmeans2, kmeans3: name one" in refusal(analysis)
    landscape = tmp_path / "landscape.49"
    put_volumes(landscape / "kmeans12", range(1, 13))
    assert len(find_set([landscape]).maps) == 12
    for number in range(11):
        put_map(landscape / "clustering_L2_ward_11" / f"state_{number:03d}_mean.mrc")
    found = find_set([landscape])
    assert (found.kind, found.base, len(found.maps)) == ("cryodrgn", 0, 11)
    assert found.describe()[1] == "box 8, voxel size 2 Å, numbered from 0"


# --- files --------------------------------------------------------------------------------------------


def test_patterns_lists_and_folders_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        put_map(tmp_path / f"vol_{number}.mrc")
    (tmp_path / "vol_3.map.gz").write_bytes(gzip.compress((tmp_path / "vol_2.mrc").read_bytes()))
    (tmp_path / "notes.txt").touch()
    expected = ["vol_1.mrc", "vol_2.mrc", "vol_3.map.gz", "vol_10.mrc"]
    by_pattern = find_set([f"{tmp_path}/vol_*"])
    by_list = find_set([tmp_path / name for name in reversed(expected)])
    assert file_names(by_pattern) == expected
    assert by_pattern == by_list == find_set([tmp_path]) == find_set(str(tmp_path))
    assert (by_list.kind, by_list.source, by_list.pixel_size, by_list.box) == ("files", tmp_path, 2.0, BOX)
    assert [entry.number for entry in by_list.maps] == [1, 2, 3, 10]
    assert by_list.base is None


def test_names_are_unique(tmp_path: Path) -> None:
    paths = [put_map(tmp_path / name) for name in ("a/map.mrc", "b/map.mrc", "b/MAP.map", "b/other.mrc")]
    names = [entry.name for entry in find_set(paths).maps]
    assert len({name.lower() for name in names}) == 4
    assert {"a_map", "other"} <= set(names)
    assert [entry.number for entry in find_set(paths).maps] == [None] * 4


def test_the_same_map_counts_once(tmp_path: Path) -> None:
    paths = [put_map(tmp_path / name) for name in ("a.mrc", "b.mrc")]
    assert len(find_set([*paths, tmp_path / "." / "a.mrc", str(tmp_path / "*.mrc")]).maps) == 2
    assert "only one map" in refusal(paths[0], paths[0])


def test_half_maps_and_masks_in_a_folder(tmp_path: Path) -> None:
    for name in ("a", "b", "b_half1", "mask", "half_moon"):
        put_map(tmp_path / f"{name}.mrc")
    found = find_set([tmp_path])
    assert file_names(found) == ["a.mrc", "b.mrc"]
    assert codes(found) == {"left-out"}
    assert "mask.mrc" in found.notices[0].text
    assert len(find_set([f"{tmp_path}/*.mrc"]).maps) == 5


def test_grids_that_differ(tmp_path: Path) -> None:
    paths = [put_map(tmp_path / "a.mrc"), put_map(tmp_path / "b.mrc", 3.0)]
    assert codes(find_set(paths)) == {"grids"}


def test_wrong_inputs(tmp_path: Path) -> None:
    assert "no input" in refusal()
    assert "no such file or folder: " in refusal(tmp_path / "none.mrc", tmp_path / "nor.mrc")
    assert "no file matches" in refusal(f"{tmp_path}/*.mrc")
    assert "the folder is empty" in refusal(tmp_path)
    (tmp_path / "series.zip").touch()
    assert "unpack" in refusal(tmp_path)
    good = put_map(tmp_path / "jobs" / "a.mrc")
    assert "is a folder (among 2 inputs)" in refusal(good, good.parent)
    text = tmp_path / "a.txt"
    text.write_text("no map")
    assert "not a map" in refusal(text)
    assert "a stack of images" in refusal(good, put_map(tmp_path / "a.mrcs"))
    assert "a STAR file" in refusal(put_iteration(tmp_path, 1), good)
    cut(put_map(tmp_path / "short.mrc"))
    assert "truncated" in refusal(good, tmp_path / "short.mrc")
    (tmp_path / "empty.mrc").touch()
    assert "truncated" in refusal(good, tmp_path / "empty.mrc")
    (tmp_path / "cut.mrc.gz").write_bytes(gzip.compress(np.random.default_rng(1).bytes(4000))[:500])
    assert "damaged" in refusal(good, tmp_path / "cut.mrc.gz")


def test_many_maps_are_described_in_few_lines(tmp_path: Path) -> None:
    for number in range(30):
        put_map(tmp_path / f"vol_{number:03d}.mrc")
    lines = find_set([tmp_path]).describe()
    assert lines[0] == f"30 maps of {tmp_path}"
    assert lines[-1] == "  … and 18 more, the last vol_029"
    assert len(lines) == 15


def test_a_real_ensemble_as_files(shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("cryodrgn_50s")
    found = find_set([f"{folder}/vol_*.mrc"])
    assert found == find_set([folder])
    assert (found.kind, len(found.maps), found.box) == ("files", 12, 64)
    assert found.pixel_size == pytest.approx(6.55, abs=0.01)
    assert [found.maps[0].number, found.maps[-1].number] == [18, 455]


def test_a_model_star_that_lists_no_classes(tmp_path: Path) -> None:
    path = tmp_path / "run_it001_model.star"
    path.write_text("data_model_general\n_rlnNrClasses 0\ndata_model_classes\nloop_\n_rlnReferenceImage\n")
    with pytest.raises(InputError, match="no maps in it"):
        find_set([path])
