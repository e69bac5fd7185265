"""What napari gets of a result: found by the manifest, in Å, in our colours, on our range."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

if os.environ.get("OCCUPY_REQUIRE_NAPARI") != "1":
    pytest.importorskip("napari", reason="needs the extra napari: pip install 'occupy-em[napari]'")

from napari.components import ViewerModel
from npe2 import PluginManager, io_utils

import occupy
from occupy.report.palette import SCALE


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the demo's parts: scale, uncertainty, table and model with occupancies."""
    folder = tmp_path_factory.mktemp("napari")

    def run(*words: str) -> None:
        command = [sys.executable, "-P", "-m", "occupy", *words, "--quiet"]
        subprocess.run(command, cwd=folder, check=True, timeout=300)

    run("demo", "-o", "demo")
    run("regions", "demo/demo.mrc", "--model", "demo/demo_model.cif", "-o", "parts")
    return folder / "parts"


def test_the_reader_is_found_by_the_manifest_and_gives_layers_that_napari_takes(results: Path) -> None:
    PluginManager.instance().discover()
    assert "occupy-em" in {manifest.name for manifest in PluginManager.instance().iter_manifests()}
    viewer = ViewerModel()
    for data, keywords, kind in io_utils.read([str(results)], stack=False, plugin_name="occupy-em"):
        getattr(viewer, f"add_{kind}")(data, **keywords)
    names = [layer.name for layer in viewer.layers]
    assert names == ["demo.mrc", "demo scale", "demo occupancy", "demo uncertainty", "parts"]
    scale, parts = viewer.layers["demo scale"], viewer.layers["parts"]
    assert scale.contrast_limits == [0.0, 1.0]
    np.testing.assert_allclose(scale.scale, (3.0, 3.0, 3.0))
    np.testing.assert_array_equal(scale.data, occupy.load(results).scale)
    # Fully present is the light neutral of every other picture of ours.
    shown = np.round(scale.colormap.map(np.array([1.0]))[0, :3] * 255).astype(int)
    assert "#" + "".join(f"{value:02x}" for value in shown) == SCALE[-1]
    # Every chain's point lies within the map, and carries its occupancy.
    assert len(parts.data) == 9
    assert ((parts.data > 0) & (parts.data < 63 * 3)).all()
    assert parts.features["demo"][0].startswith("1.00")


def test_other_folders_are_left_to_other_readers(tmp_path: Path) -> None:
    from occupy.suites.napari import reader

    assert reader(str(tmp_path)) is None
    (tmp_path / "map.mrc").write_bytes(b"")
    assert reader(str(tmp_path / "map.mrc")) is None
