"""Every real map at hand gives numbers that make sense, or one clear line."""

import warnings

import numpy as np
import pytest

from occupy import InputError, estimate, read_map


@pytest.mark.parametrize("archive", ["formats", "maps"])
def test_every_file_gives_a_result_or_one_clear_line(shared_data, archive):
    files = sorted(p for p in shared_data(archive).iterdir() if p.suffix not in (".cif", ".complete"))
    files = [p for p in files if not p.name.startswith(".")]
    assert len(files) >= 7
    refused = {}
    for path in files:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                est = estimate(read_map(path))
            except InputError as error:
                refused[path.name] = str(error)
                continue
        assert est.full_scale.value > 0, path.name
        assert 0 <= est.lowest_confident_scale < 1, path.name
        for values in (est.scale, est.confidence):
            assert values.shape == est.volume.shape
            assert np.isfinite(values).all()
            assert 0 <= values.min() <= values.max() <= 1
        assert est.scale.max() == 1, path.name
    assert all("\n" not in line and len(line) < 300 for line in refused.values())
    # The maps proper are all usable; what may be refused are crops and pieces among the formats.
    assert archive == "formats" or not refused


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("beta_galactosidase.mrc", set()),
        ("emd_32143.map", set()),
        ("emd_5168.map", set()),
        ("emd_3488_masked.mrc", {"masked"}),
        ("emd_1832.map", {"masked"}),
        # Six voxels in seven are padding; what is left has a solvent peak that can be fitted.
        ("groel_zero_padded.mrc", {"masked"}),
    ],
)
def test_masked_maps_are_told_from_raw_ones(shared_data, name, codes):
    est = estimate(read_map(shared_data("maps") / name))
    assert {n.code for n in est.notices} == codes
