"""Agreement of ``--estimator nlf`` with the outputs of OccuPy 0.1.13 on real and simulated maps."""

import numpy as np
import pytest

from occupy import Settings, Volume, read_map
from occupy.pipeline import estimate
from occupy.volume import compute_planes

CASES = {
    "betaGal": ("maps/beta_galactosidase.mrc", 5),
    "emd_32143": ("maps/emd_32143.map", 5),
    "relion50s_consensus": ("relion_50s/consensus.mrc", 6),
}
MODIFIED = {
    "amplified": "ampl_3.0_solExcl.mrc",
    "attenuated": "attn_3.0_solExcl.mrc",
    "sigmoid": "sigm_5.0-0.20_solExcl.mrc",
}


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request, shared_data):
    path, tile = CASES[request.param]
    name, inner = path.split("/")
    return read_map(shared_data(name) / inner), tile, shared_data("reference") / request.param


def beyond(ours, path, tolerance):
    """Return the share of voxels that differ by more than a tolerance relative to the reference's range."""
    theirs = read_map(path).data
    scaled = theirs.min() >= 0 and theirs.max() <= 1.001
    unit = 1.0 if scaled else float(np.quantile(np.abs(theirs), 0.9999))
    return float(np.mean(np.abs(ours - theirs) / unit > tolerance))


def rendered(est, product):
    out = np.empty(est.volume.shape, np.float32)

    def keep(_, start, stop, slab):
        out[start:stop] = slab

    compute_planes({product: est.maps[product]}, keep)
    return out


@pytest.mark.parametrize(
    ("folder", "file", "options"),
    [
        ("occ_mod", "scale_occ.mrc", {}),
        ("res", "scale_res.mrc", {"mode": "resolution"}),
        ("occ_nlrc", "scale_occ.mrc", {"recalibrate": True}),
        ("s0", "scale_naive_occ.mrc", {"naive": True}),
    ],
)
def test_the_scale_agrees(case, folder, file, options):
    volume, tile, reference = case
    if folder == "s0" and not (reference / folder / file).exists():
        assert reference.name == "relion50s_consensus"
        pytest.skip("the archive holds no naive scale of this map")
    est = estimate(volume, Settings(estimator="nlf", tile_size=tile, **options))
    assert beyond(est.scale, reference / folder / file, 0.01) <= 0.001


def test_the_confidence_agrees(case):
    volume, tile, reference = case
    est = estimate(volume, Settings(estimator="nlf", tile_size=tile))
    assert beyond(est.confidence, reference / "occ_mod" / "conf.mrc", 0.05) <= 0.001


@pytest.mark.parametrize("product", sorted(MODIFIED))
def test_the_modified_maps_agree(case, product):
    volume, tile, reference = case
    asked = Settings(
        estimator="nlf", tile_size=tile, amplify=3, attenuate=3, sigmoid=5, pivot=0.2, exclude_solvent=True
    )
    est = estimate(volume, asked)
    assert beyond(rendered(est, product), reference / "occ_mod" / MODIFIED[product], 0.05) <= 0.001


def test_the_map_with_solvent_kept_agrees(case):
    volume, tile, reference = case
    file = reference / "occ_keep" / "ampl_3.0.mrc"
    if not file.exists():
        assert reference.name == "relion50s_consensus"
        pytest.skip("the archive holds no amplified map with solvent of this map")
    est = estimate(volume, Settings(estimator="nlf", tile_size=tile, amplify=3))
    assert beyond(rendered(est, "amplified"), file, 0.05) <= 0.001


def test_the_numbers_in_the_logs_agree(case):
    volume, tile, reference = case
    est = estimate(volume, Settings(estimator="nlf", tile_size=tile))
    wanted = {}
    for line in (reference / "occ_mod" / "log.txt").read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.split():
            wanted[name.strip()] = rest.split()[-1]
    assert est.settings.tau == pytest.approx(float(wanted["Tau"]), abs=6e-4)
    assert est.settings.kernel_voxels == int(wanted["Kernel nv"])
    assert est.settings.lowpass == pytest.approx(float(wanted["LP Filt."]), abs=6e-3)
    assert est.full_scale.value == pytest.approx(float(wanted["Full scale"]), abs=6e-4)
    assert est.solvent.mean == pytest.approx(float(wanted["Solvent peak"]), abs=6e-4)
    assert est.variability_limit == pytest.approx(float(wanted["Variability_limit"]), abs=2e-3)


def test_the_published_window_depends_on_axis_order_and_ours_does_not(case):
    """The reason why the default differs: turning the map must turn the answer."""
    volume, tile, _ = case
    turned = Volume.from_array(np.ascontiguousarray(volume.data.transpose(2, 1, 0)), volume.voxel_size[0])
    change = {
        name: np.abs(
            estimate(turned, Settings(estimator=name, tile_size=tile)).scale.transpose(2, 1, 0)
            - estimate(volume, Settings(estimator=name, tile_size=tile)).scale
        ).max()
        for name in ("local", "nlf")
    }
    assert change["local"] < 1e-3 < 1e-2 < change["nlf"]
