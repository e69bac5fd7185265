"""Half-maps are found beside a map by the names that programs give them."""

import pytest

from occupy.io.mapset import find_half_maps


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("run_class001.mrc", "run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc"),
        ("run_ct12_class001.mrc", "run_ct12_half1_class001_unfil.mrc", "run_ct12_half2_class001_unfil.mrc"),
        ("J12_005_volume_map.mrc", "J12_005_volume_map_half_A.mrc", "J12_005_volume_map_half_B.mrc"),
        ("emd_1234.map.gz", "emd_1234_half_map_1.map.gz", "emd_1234_half_map_2.map.gz"),
        ("emd_1234.map", "emd_1234_half_map_1.map.gz", "emd_1234_half_map_2.map.gz"),
        ("x.mrc", "x_half1.mrc", "x_half2.mrc"),
    ],
)
def test_names(tmp_path, name, first, second):
    (tmp_path / name).touch()
    assert find_half_maps(tmp_path / name) is None
    (tmp_path / first).touch()
    assert find_half_maps(tmp_path / name) is None
    (tmp_path / second).touch()
    assert find_half_maps(tmp_path / name) == (tmp_path / first, tmp_path / second)
