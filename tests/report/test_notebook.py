"""An estimate in a notebook: a picture always, a widget where that is installed."""

from __future__ import annotations

import base64
import sys
from typing import Any

import numpy as np
import pytest

from conftest_browser import need
from occupy.report.notebook import _module_text, surface_widget
from occupy.report.surfaces import unpack
from occupy.result import MapResult, estimate
from occupy.volume import Volume

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def est() -> MapResult:
    rng = np.random.default_rng(3)
    z, y, x = np.indices((36,) * 3) - 17.5
    ball = np.where(z**2 + y**2 + x**2 < 100, np.where(x < 0, 0.5, 1.0), 0.0)
    data = ball + 0.05 * rng.standard_normal((36,) * 3)
    return estimate(Volume.from_array(data.astype(np.float32), 2.5, "ball"))


def test_without_widgets_there_is_a_picture(est: MapResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    bundle = est._repr_mimebundle_(include=None, exclude=None)
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert "full scale" in bundle["text/plain"]
    assert WIDGET not in bundle


def test_a_page_without_a_kernel_shows_the_picture(est: MapResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """nbconvert shows of an output with a widget only that, empty: the picture is an output of its own."""
    need("anywidget")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda thing, raw=False: shown.append((raw, thing)))
    est._ipython_display_()
    (_, widget), (raw, bundle) = shown
    assert unpack(widget.mesh)[0]["triangles"] > 300
    assert raw
    assert WIDGET not in bundle
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    widget.close()


def test_the_surface_is_at_the_level_asked_for(est: MapResult) -> None:
    need("anywidget")
    made = surface_widget(est.estimate, level=0.4, height=300)
    head, arrays = unpack(made.mesh)
    assert head["level"] == 0.4
    assert len(arrays["indices"]) == 3 * head["triangles"] > 300
    assert {c["layer"] for c in made.colours} == set(head["ranges"])
    assert surface_widget(est).colours == made.colours
    made.close()


def test_the_module_imports_nothing() -> None:
    text = _module_text()
    assert "import " not in text.replace("important", "")
    assert text.count("export ") == text.count("export default") == 1
