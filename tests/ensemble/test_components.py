"""Parts found without a model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from occupy import tuning
from occupy.ensemble.components import find_components, soft_mask, varying
from occupy.ensemble.pipeline import estimate_set


@pytest.fixture(scope="module")
def est(tools, regularised):
    return estimate_set(tools["members_of"](regularised))


def chain_voxels(est, made, name):
    """Return the voxels within 4 Å of a chain's atoms, on the content box."""
    structure = made.classes[0].structure
    points = np.array([a.pos.tolist() for r in structure[0][name] for a in r])[:, ::-1]
    at = np.rint(points / est.scaled.voxel_size).astype(int) - np.array(est.scaled.corner)
    out = np.ones(est.content.shape, dtype=bool)
    out[tuple(at.T)] = False
    return distance_transform_edt(out, sampling=est.scaled.voxel_size) < 4


def test_each_part_that_comes_and_goes_is_found(est, regularised):
    components = find_components(est)
    assert len(components) == 3
    for chain in ("A", "D", "G"):
        voxels = chain_voxels(est, regularised, chain) & est.content
        shares = [(c.mask & voxels).sum() / min(c.mask.sum(), voxels.sum()) for c in components]
        assert max(shares) > 0.6
    assert (
        len(
            {
                int(np.argmax([(c.mask & chain_voxels(est, regularised, n)).sum() for c in components]))
                for n in "ADG"
            }
        )
        == 3
    )


def test_components_are_named_by_size_and_do_not_overlap(est):
    components = find_components(est)
    assert [c.name for c in components] == ["component01", "component02", "component03"]
    volumes = [c.volume for c in components]
    assert volumes == sorted(volumes, reverse=True)
    voxel = np.prod(est.scaled.voxel_size)
    for component in components:
        assert component.volume == pytest.approx(component.mask.sum() * voxel)
        assert not (component.mask & ~varying(est)).any()
    assert np.sum([c.mask for c in components], axis=0).max() == 1


def test_the_core_is_in_no_component(est, regularised):
    core = chain_voxels(est, regularised, "E")
    together = np.any([c.mask for c in find_components(est)], axis=0)
    assert (together & core).sum() < 0.2 * core.sum()


def test_parts_that_go_together_are_one(tools):
    made = tools["simulated"](
        [{"G": 0.0, "U": 0.0, "V": 0.0}, {}, {"G": 0.5, "U": 0.5, "V": 0.5}], weights=None
    )
    components = find_components(estimate_set(tools["members_of"](made)))
    assert len(components) >= 1
    sizes = [c.volume for c in components]
    assert sizes[0] > 0.6 * sum(sizes)


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("class3d", [True, False])
def test_nothing_is_invented_from_noise(tools, class3d, seed):
    made = tools["simulated"]([{}] * 3, weights=None, class3d=class3d, snr=10.0, seed=seed)
    assert find_components(estimate_set(tools["members_of"](made, known=class3d))) == ()


def test_a_soft_mask_falls_from_one_to_nothing(est):
    mask = find_components(est)[0].mask
    soft = soft_mask(est, mask)
    assert np.all(soft[mask] == 1)
    away = distance_transform_edt(~mask, sampling=est.scaled.voxel_size)
    assert np.all(soft[away >= tuning.COMPONENTS.soft_edge] == 0)
    between = (away > 0) & (away < tuning.COMPONENTS.soft_edge)
    assert np.all((soft[between] > 0) & (soft[between] < 1))
