"""A user's whole way through the page, in the system's Chromium; what only a browser shows."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest

import occupy
from conftest_browser import FLAGS, Occupy, coloured, find_browser, missing_and_present, need
from occupy.errors import InputError
from occupy.inputs import Inputs
from occupy.io.mrc import read_map, write_map
from standin_set import write_set

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return the browser, one for all tests."""
    path = find_browser()
    need("playwright")
    need("starlette")
    need("uvicorn")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        made = play.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def served(shelf_folder: Path) -> Iterator[Occupy]:
    need("uvicorn")
    running = Occupy(cwd=shelf_folder)
    yield running
    code, said = running.stop()
    assert (code, said) == (0, "")


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens an address; afterwards, nothing may have gone wrong in the page."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def go(url: str, size: tuple[int, int] = (1400, 850), scheme: str = "light", quiet: bool = True) -> Any:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()

        def asked(request: Any) -> None:
            if not request.url.startswith(("http://127.0.0.1:", "file://", "data:", "blob:")):
                wrong.append(f"asked another host: {request.url}")

        page.on("request", asked)
        if quiet:
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(url)
        return page

    yield go
    for context in contexts:
        context.close()
    assert wrong == []


def to_files(page: Any) -> None:
    """Go to the list of files; what was opened earlier is open still."""
    page.wait_for_selector("body[data-ready=page]")
    page.keyboard.press("o")
    page.wait_for_selector(".welcome .files li")


def open_blob(page: Any) -> None:
    to_files(page)
    page.locator(".welcome .files li", has_text="blob.mrc").first.click()
    page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)


def settle(page: Any) -> None:
    """Wait until the picture rests for two frames."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def slice_pixels(page: Any, layer: int, axis: int = 0) -> np.ndarray:
    """Return the bytes of a slice's canvas."""
    script = """([axis, layer]) => {
      const c = document.querySelectorAll('.axis')[axis].querySelectorAll('canvas')[layer];
      return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"""
    return np.array(page.evaluate(script, [axis, layer]), dtype=np.uint8)


def test_a_users_whole_way(served: Occupy, visit: Any, shelf_folder: Path, tmp_path: Path) -> None:
    page = visit(served.address())
    open_blob(page)
    assert "token" not in page.url
    canvas = page.locator("canvas.surface")
    # Missing and present both: one half is full, the other is not.
    first = canvas.screenshot()
    missing, present = missing_and_present(first)
    assert missing > 500
    assert present > 500

    # Turn it by mouse and by keyboard: another picture each time.
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 190, steps=4)
    page.mouse.up()
    settle(page)
    second = canvas.screenshot()
    assert second != first
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert canvas.screenshot() != second
    page.get_by_role("button", name="Reset").click()

    # Scrub: the bytes on screen are those of the map.
    page.get_by_role("slider", name="Slice along z").fill("20")
    page.wait_for_selector(".axis:nth-child(1) canvas[data-index='20']")
    volume = read_map(shelf_folder / "blob.mrc")
    pixels = slice_pixels(page, 0).reshape(48, 48, 4)[::-1, :, 0].astype(float)
    assert np.corrcoef(pixels.ravel(), volume.standard()[20].ravel())[0, 1] > 0.98
    # A click moves the other planes, and the readout shows the value there.
    page.locator(".axis").nth(0).locator("canvas").first.click(position={"x": 30, "y": 40})
    page.wait_for_function("() => document.querySelector('.readout').textContent.includes('local scale')")

    # Estimate again with another low-pass; the automatic values are shown.
    lowpass = page.locator("[data-setting=lowpass]")
    assert lowpass.get_attribute("placeholder") == "auto: 9"
    lowpass.fill("12")
    lowpass.press("Tab")
    page.wait_for_function("() => document.querySelector('.command').textContent.includes('--lowpass 12')")
    page.get_by_role("button", name="Run").click()
    page.wait_for_selector("body[data-estimated]")
    assert "low-pass" in page.locator(".log").inner_text()

    # Modify: the slices' preview follows, the surface too.
    page.get_by_role("tab", name="Modify").click()
    page.get_by_role("button", name="Show in slices").click()
    page.wait_for_function("() => document.querySelector('.axis').querySelectorAll('canvas').length === 4")
    before = slice_pixels(page, 3)
    page.get_by_role("radio", name="Amplify").click()
    page.wait_for_function("() => document.querySelector('.chartbox .modified')")
    settle(page)
    assert not np.array_equal(slice_pixels(page, 3), before)
    page.get_by_role("button", name="Colour by factor").click()
    page.get_by_role("button", name="Show as surface").click()
    page.wait_for_selector("canvas.surface[data-ready=fine]")

    # Solvent graph, mask, export.
    page.get_by_role("tab", name="Solvent").click()
    assert page.locator(".chart .fit").get_attribute("d").startswith("M")
    page.get_by_role("tab", name="Masks").click()
    page.get_by_role("button", name="Make solvent definition").click()
    page.wait_for_selector("body[data-mask=solvent_mask]")
    page.get_by_role("tab", name="Export").click()
    page.get_by_role("button", name="Save results").click()
    page.wait_for_selector("body[data-saved]", timeout=30000)
    assert {"blob_scale.mrc", "blob_amplified.mrc", "blob.cxc", "blob_report.html"} <= {
        p.name for p in (shelf_folder / "occupy_blob").iterdir()
    }
    with page.expect_download() as download:
        page.get_by_role("button", name="ChimeraX archive").click()
    download.value.save_as(tmp_path / "all.zip")
    assert zipfile.ZipFile(tmp_path / "all.zip").testzip() is None
    with page.expect_download() as picture:
        page.get_by_role("button", name="Picture of the surface").click()
    picture.value.save_as(tmp_path / "surface.png")
    missing, present = missing_and_present((tmp_path / "surface.png").read_bytes())
    assert missing + present > 500
    page.get_by_role("tab", name="Model").click()
    page.locator(".panel .files li", has_text="model.pdb").click()
    page.wait_for_selector("body[data-trace='1']")


def test_a_set_its_table_and_its_differences(served: Occupy, visit: Any) -> None:
    page = visit(served.address())
    to_files(page)
    page.locator(".welcome .files li", has_text="classes").click()
    page.wait_for_selector(".gallery[data-ready='0']", timeout=20000)
    assert page.locator(".thumb").count() == 3
    assert [page.locator("td[data-region='1']").nth(i).inner_text() for i in range(3)] == [
        "0.00",
        "0.50",
        "1.00",
    ]
    page.locator("td[data-region='1'][data-map='2']").click()
    page.wait_for_selector("canvas[data-slot=a][data-map='2'][data-ready=fine]")
    assert "lobe_a in class_003: occupancy 1 ± 0.02, 95 %" in page.locator(".cellfacts").inner_text()
    # The region's component comes with it; another by hand.
    assert page.locator("[data-component=lobe_a]").is_checked()
    page.locator("[data-component=lobe_b]").check()
    page.wait_for_selector("[data-components='lobe_a,lobe_b']")
    page.get_by_role("radio", name="With difference").click()
    page.wait_for_selector("canvas[data-slot=difference][data-ready=fine]")
    page.locator("[data-component=lobe_a]").uncheck()
    page.locator("[data-component=lobe_b]").uncheck()
    settle(page)
    assert page.locator("canvas[data-slot=b]").is_visible()
    assert coloured(page.locator("canvas[data-slot=difference]").screenshot())[1] > 300


@pytest.mark.parametrize("size", [(700, 900), (1000, 700), (2200, 1200)])
def test_every_window_and_theme(served: Occupy, visit: Any, size: tuple[int, int]) -> None:
    page = visit(served.address(), size, "dark")
    open_blob(page)
    # Nothing is wider than the window, and the background is dark.
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.locator("canvas.surface").bounding_box()["width"] > 250
    shade = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert max(map(int, shade)) < 60
    page.get_by_role("button", name="◐").click()
    shade = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert min(map(int, shade)) > 200


def test_bad_input_and_a_server_that_goes_away_are_said_clearly(shelf_folder: Path, visit: Any) -> None:
    running = Occupy(str(shelf_folder))
    page = visit(running.address(), quiet=False)
    page.locator(".files li", has_text="broken.mrc").click()
    page.wait_for_function("() => document.querySelector('.openerror').textContent.includes('not an MRC')")
    assert page.locator("#lost").is_hidden()
    assert running.stop() == (0, "")
    page.locator(".files li", has_text="blob.mrc").click()
    page.wait_for_selector("#lost:not([hidden])")


def test_a_map_named_on_the_command_line_is_open_at_once(shelf_folder: Path, visit: Any) -> None:
    running = Occupy(str(shelf_folder / "blob.mrc"))
    page = visit(running.address())
    page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)
    assert page.title().startswith("blob.mrc")
    page.close()  # or it would ask a server that is gone
    assert running.stop() == (0, "")


def test_h06_without_the_token_or_with_a_used_one_there_is_a_page_that_says_what_to_do(
    served: Occupy, visit: Any
) -> None:
    address = served.address()
    page = visit(address)
    page.wait_for_selector("body[data-ready=page]")
    # Another browser, with the same address or none.
    for again in (address, f"http://{served.place}/"):
        other = visit(again, quiet=False)
        other.wait_for_url(f"http://{served.place}/")
        assert "press Enter in the terminal" in other.locator("body").inner_text()
    # This one is in already, by whatever way it comes.
    page.goto(address)
    page.wait_for_selector("body[data-ready=page]")


def test_h06_the_file_a_browser_is_started_with_leads_in(served: Occupy, visit: Any, tmp_path: Path) -> None:
    from occupy.web.security import write_door

    page = visit(write_door(tmp_path, served.address()).as_uri(), quiet=False)
    page.wait_for_selector("body[data-ready=page]")
    assert page.url == f"http://{served.place}/"


def test_h02_a_map_that_is_rewritten_is_closed_with_one_line(
    shelf_folder: Path, visit: Any, tmp_path: Path
) -> None:
    for name in ("m.mrc", "stays.mrc"):
        shutil.copy(shelf_folder / "blob.mrc", tmp_path / name)
    running = Occupy(str(tmp_path))
    page = visit(running.address(), quiet=False)
    for name in ("stays.mrc", "m.mrc"):
        to_files(page)
        page.locator(".welcome .files li", has_text=name).first.click()
        page.wait_for_selector(f"[role=tab][title='{name}'][aria-selected=true]")
        page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)
    os.truncate(tmp_path / "m.mrc", 2048)
    page.locator(".axis canvas").first.click()
    page.wait_for_selector("#closed:not([hidden])")
    assert page.locator("#closed span").inner_text() == (
        "m.mrc was changed while it was open, so it was closed; open it again"
    )
    page.wait_for_selector("[role=tab][title='stays.mrc'][aria-selected=true]")
    assert page.locator("[role=tab][title='m.mrc']").count() == 0
    page.wait_for_selector("canvas.surface[data-ready=fine]")
    page.get_by_label("Hide this line").click()
    assert page.locator("#closed").is_hidden()
    page.close()
    assert running.stop() == (0, "")


def test_a_table_of_a_report_is_sorted_by_a_click(visit: Any, tmp_path: Path) -> None:
    from occupy.report.html import Section, page, table

    rows = [("b", "0.90 ± 0.05"), ("a10", "0.10 ± 0.05"), ("a9", "–"), ("c", "0.50 ± 0.05")]
    body = table(rows, ("part", "occupancy"), sortable=True)
    (tmp_path / "table.html").write_text(page("t", "", "", [Section("Numbers", body)]), encoding="utf-8")
    shown = visit((tmp_path / "table.html").as_uri())

    def names() -> list[str]:
        return shown.eval_on_selector_all("tbody th", "cells => cells.map((cell) => cell.textContent)")

    assert names() == ["b", "a10", "a9", "c"]
    shown.click("thead th:nth-child(2)")
    assert names() == ["a10", "c", "b", "a9"]  # what has no number is last
    shown.click("thead th:nth-child(2)")
    assert names() == ["a9", "b", "c", "a10"]
    shown.focus("thead th:nth-child(1)")
    shown.keyboard.press("Enter")
    assert names() == ["a9", "a10", "b", "c"]


def test_the_report_opens_from_a_file_and_prints(shelf_folder: Path, visit: Any, tmp_path: Path) -> None:
    from occupy.cli import main

    assert (
        main.run(["estimate", str(shelf_folder / "blob.mrc"), "-o", str(tmp_path), "--report", "--quiet"])
        == 0
    )
    page = visit(f"file://{tmp_path / 'blob_report.html'}")
    page.wait_for_selector("canvas[data-ready]", timeout=20000)
    missing, present = missing_and_present(page.locator(".stage").screenshot())
    assert missing > 300
    assert present > 300
    told = float(page.text_content(".bar output"))
    page.fill(".bar input[type=range]", "0")
    page.wait_for_selector("canvas[data-level]")
    assert float(page.text_content(".bar output")) == pytest.approx(0.6 * told, rel=0.01)
    assert missing_and_present(page.locator(".stage").screenshot())[1] > 300
    page.emulate_media(media="print")
    assert missing_and_present(page.locator(".stage").screenshot())[1] > 300
    assert io.BytesIO(page.pdf()).read(4) == b"%PDF"


def test_the_notebook_widget_draws_its_surface(visit: Any, tmp_path: Path, shelf_folder: Path) -> None:
    from occupy.report.estimate_page import colourings, surface_of
    from occupy.report.notebook import _module_text

    est = occupy.estimate(read_map(shelf_folder / "blob.mrc")).estimate
    message, _ = surface_of(est)
    colours = [asdict(c) for c in colourings(est)]
    said = json.dumps({"colours": colours, "height": 400, "mesh": base64.b64encode(message).decode()})
    module = _module_text().replace("export default", "const widget =")
    (tmp_path / "notebook.html").write_text(
        f"""<!doctype html><div id=cell></div><script type=module>{module}
        const said = {said};
        const padded = Uint8Array.from("xyz" + atob(said.mesh), (c) => c.charCodeAt(0));
        said.mesh = new DataView(padded.buffer, 3);
        const model = {{ get: (name) => said[name], on() {{}} }};
        widget.render({{ model, el: document.getElementById("cell") }});
        </script>""",
        encoding="utf-8",
    )
    page = visit(f"file://{tmp_path / 'notebook.html'}")
    page.wait_for_selector("canvas[data-ready]")
    missing, present = missing_and_present(page.locator("canvas").screenshot())
    assert missing > 300
    assert present > 300


def test_surface_and_all_slices_are_seen_together_on_a_small_screen(served: Occupy, visit: Any) -> None:
    page = visit(served.address(), size=(1000, 700))
    open_blob(page)
    for canvas in page.locator("canvas.surface, .slices canvas").all():
        box = canvas.bounding_box()
        assert box["width"] >= 90
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 1000
        assert box["y"] + box["height"] <= 700
    surface = page.locator("canvas.surface").bounding_box()
    slices = page.locator(".slices").bounding_box()
    assert surface["x"] + surface["width"] <= slices["x"]


def test_a_slice_is_enlarged_and_the_others_stay_beside_it(served: Occupy, visit: Any) -> None:
    page = visit(served.address())
    open_blob(page)
    scale = page.locator(".axis").nth(1).locator("canvas").nth(1)
    before = scale.bounding_box()
    pixels = slice_pixels(page, 1, axis=1)
    scale.dblclick()
    large = page.locator(".large canvas")
    assert page.locator(".slices").get_attribute("data-large") == "1 scale"
    assert large.bounding_box()["width"] > 1.8 * before["width"]
    beside = page.locator(".beside canvas")
    assert beside.count() == 8
    assert large.bounding_box()["width"] > 3 * beside.first.bounding_box()["width"]
    # It is the same slice: the click of it moved the others only.
    page.wait_for_function("() => document.querySelector('.large canvas').dataset.index")
    script = "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    assert np.array_equal(np.array(large.evaluate(script), np.uint8), pixels)
    beside.first.dblclick()
    assert page.locator(".slices").get_attribute("data-large") == "0 input"
    page.keyboard.press("Escape")
    assert page.locator(".slices").get_attribute("data-large") == ""
    assert page.locator(".axis").count() == 3
    page.get_by_role("button", name="Enlarge").click()
    assert page.locator(".slices").get_attribute("data-large") == "0 scale"
    page.get_by_role("button", name="All slices").click()
    assert page.locator(".axis canvas").count() == 9


def test_the_scale_bar_tells_the_length_it_has_on_screen(served: Occupy, visit: Any) -> None:
    """The ball is measured in the picture, before and after zooming."""
    page = visit(served.address())
    open_blob(page)

    def per_pixel() -> float:
        settle(page)
        text = page.locator(".ruler i").inner_text()
        assert text.endswith(" Å")
        return float(text.removesuffix(" Å")) / page.locator(".ruler b").bounding_box()["width"]

    first = per_pixel()
    # The ball has a radius of 0.3 of the box of 48 voxels of 2.5 Å; in the nearer half it looks larger.
    canvas = page.locator("canvas.surface")
    picture = coloured_box(canvas.screenshot())
    assert 0.85 < picture * first / (0.6 * 48 * 2.5) < 1.25
    canvas.focus()
    for _ in range(4):
        page.keyboard.press("+")
    assert per_pixel() == pytest.approx(first / 1.12**4, rel=0.03)


def coloured_box(png: bytes) -> int:
    """Return the height in pixels of what is not background, in the middle fifth of a picture."""
    from matplotlib.image import imread

    pixels = (255 * imread(io.BytesIO(png))[6:-6, 6:-6, :3]).astype(int)
    # Above the colour key and the bar.
    pixels = pixels[: int(0.88 * len(pixels))]
    middle = pixels[:, int(0.4 * pixels.shape[1]) : int(0.6 * pixels.shape[1])]
    rows = np.flatnonzero((np.abs(middle - pixels[2, 2]).max(axis=2) > 40).mean(axis=1) > 0.1)
    return int(rows[-1] - rows[0])


def test_no_menu_is_blank_and_the_folder_is_named_before_it_is_written(
    served: Occupy, visit: Any, shelf_folder: Path
) -> None:
    page = visit(served.address())
    open_blob(page)
    page.wait_for_function("() => document.querySelector('.command').textContent.includes('occupy')")
    for menu in page.locator("select").all():
        assert menu.evaluate("(m) => m.selectedIndex >= 0 && m.selectedOptions[0].textContent.trim() !== ''")
    page.get_by_role("tab", name="Export").click()
    assert page.locator(".into code").inner_text() == str(shelf_folder / "occupy_blob")


def test_a_path_is_typed_or_pasted_within_what_was_allowed(
    served: Occupy, visit: Any, shelf_folder: Path
) -> None:
    page = visit(served.address(), quiet=False)
    to_files(page)
    for wrong in (str(shelf_folder.parent / "outside.mrc"), "nothing.mrc"):
        page.get_by_label("Path").fill(wrong)
        page.locator(".typed button").click()
        page.wait_for_function("() => document.querySelector('.openerror').textContent.includes('.mrc: ')")
        assert page.locator(".openerror").inner_text().startswith(wrong)
    page.get_by_label("Path").fill(f" {shelf_folder / 'blob.mrc'} ")
    page.get_by_label("Path").press("Enter")
    page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)
    page.close()


def test_a_link_restores_level_camera_colours_layers_and_cross(served: Occupy, visit: Any) -> None:
    page = visit(served.address())
    open_blob(page)
    page.get_by_role("spinbutton", name="Level").fill("0.9")
    page.get_by_role("spinbutton", name="Level").press("Enter")
    page.get_by_label("Colour by").select_option("confidence")
    page.locator("canvas.surface").focus()
    for key in ("ArrowLeft", "ArrowUp", "+"):
        page.keyboard.press(key)
    page.locator("[data-layer=confidence]").uncheck()
    page.get_by_role("slider", name="Slice along z").fill("20")
    page.wait_for_selector(".axis:nth-child(1) canvas[data-index='20']")
    page.wait_for_selector("canvas.surface[data-ready=fine]")
    page.get_by_role("button", name="Link").click()
    settle(page)
    before, address = page.locator("canvas.surface").screenshot(), page.url
    page.evaluate("() => localStorage.clear()")
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)
    page.wait_for_selector(".axis:nth-child(1) canvas[data-index='20']")
    settle(page)
    assert float(page.get_by_role("spinbutton", name="Level").input_value()) == 0.9
    assert page.get_by_label("Colour by").input_value() == "confidence"
    assert page.locator(".axis canvas").count() == 6
    after = page.locator("canvas.surface").screenshot()
    assert differing(before, after) < 0.002
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert differing(before, page.locator("canvas.surface").screenshot()) > 0.02


def differing(one: bytes, other: bytes) -> float:
    """Return the share of pixels in which two pictures of one size differ visibly."""
    from matplotlib.image import imread

    first, second = (imread(io.BytesIO(png))[:, :, :3] for png in (one, other))
    assert first.shape == second.shape
    return float((np.abs(first - second).max(axis=2) > 0.1).mean())


def test_the_map_is_shown_first_and_the_estimate_tells_its_stage_and_time(
    server: Any, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, estimate = threading.Event(), Inputs.estimate

    def waiting(self: Inputs, settings: Any = None, progress: Any = None) -> Any:
        while not go.wait(0.02):
            progress("low-pass", 1, 4)
        return estimate(self, settings, progress)

    monkeypatch.setattr(Inputs, "estimate", waiting)
    page = visit(f"http://127.0.0.1:{server.port}/?token={server.access.new_code()}")
    to_files(page)
    page.locator(".welcome .files li", has_text="blob.mrc").first.click()
    page.wait_for_selector("canvas.surface[data-ready=read-fine]")
    canvas = page.locator("canvas.surface")
    # One of the axes is about as red as what is missing.
    assert missing_and_present(canvas.screenshot())[0] < 150
    assert coloured_box(canvas.screenshot()) > 100
    stage = page.locator(".stageline")
    assert re.fullmatch(r"low-pass, \d+\.\d s", stage.inner_text())
    first = stage.inner_text()
    page.wait_for_function("(first) => document.querySelector('.stageline').textContent !== first", arg=first)
    # What the user does meanwhile stays.
    page.get_by_role("spinbutton", name="Level").fill("0.5")
    page.get_by_role("spinbutton", name="Level").press("Enter")
    page.get_by_role("slider", name="Slice along z").fill("20")
    go.set()
    page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)
    assert min(missing_and_present(canvas.screenshot())) > 300
    assert page.get_by_role("spinbutton", name="Level").input_value() == "0.5"
    assert page.get_by_role("slider", name="Slice along z").input_value() == "20"
    assert page.locator(".axis canvas").count() == 9
    assert page.locator(".panels nav button").count() == 6
    assert page.locator("[role=tab][title='blob.mrc']").count() == 1


def test_a_model_is_listed_by_what_is_missing_and_a_click_goes_there(demo_folder: Path, visit: Any) -> None:
    running = Occupy(str(demo_folder / "demo.mrc"))
    page = visit(running.address())
    page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)
    page.get_by_role("tab", name="Model").click()
    page.locator(".panel .files li", has_text="shifted.cif").click()
    page.wait_for_selector("#panel-model-1 .note.bad")
    assert "does not fit the map" in page.locator("#panel-model-1 .note").inner_text()
    page.get_by_role("button", name="Take the model away").click()
    page.locator(".panel .files li", has_text="demo_model.cif").click()
    page.wait_for_selector("body[data-parts]", timeout=30000)
    rows = page.locator(".parts tbody tr")
    values = [float(rows.nth(i).locator("td b").inner_text()) for i in range(rows.count())]
    assert values == sorted(values)
    assert values[0] < 0.5 < 0.9 < values[-1]
    assert "±" in rows.first.inner_text()
    # What the fit leaves over is hidden at first.
    assert page.evaluate("document.querySelector('canvas.surface').dataset.masks") is None
    page.get_by_label("What the fit leaves over").check()
    page.wait_for_selector("canvas.surface[data-masks='residual 1']")
    page.get_by_label("What the fit leaves over").uncheck()
    page.locator(".residual button").click()
    page.wait_for_selector("[data-layer=residual]:checked")
    page.locator("[data-layer=residual]").uncheck()
    # Without the surface, the tube alone: missing and present both, in the colours of the table.
    page.get_by_role("spinbutton", name="Level").fill("1e6")
    page.get_by_role("spinbutton", name="Level").press("Enter")
    page.wait_for_function("() => document.querySelector('.trouble').textContent.includes('Nothing')")
    settle(page)
    whole = page.locator("canvas.surface").screenshot()
    assert min(missing_and_present(whole)) > 500
    page.get_by_label("Filter parts").fill(rows.last.get_attribute("data-part"))
    assert rows.count() == 1
    before = page.locator(".readout").inner_text()
    rows.first.click()
    page.wait_for_function("(before) => document.querySelector('.readout').innerText !== before", arg=before)
    place = [float(v) for v in re.findall(r"-?[\d.]+", page.locator(".readout").inner_text())[:3]]
    job = gemmi.read_structure(str(demo_folder / "demo_model.cif"))[0]
    atoms = np.array([a.pos.tolist() for r in job[rows.first.get_attribute("data-part")] for a in r])
    assert np.linalg.norm(atoms - place, axis=1).min() < 3
    settle(page)
    assert differing(whole, page.locator("canvas.surface").screenshot()) > 0.02
    page.get_by_role("button", name="Reset").click()
    settle(page)
    page.get_by_role("button", name="Take the model away").click()
    settle(page)
    # What remains is the colour key.
    gone = missing_and_present(page.locator("canvas.surface").screenshot())
    assert gone[0] < missing_and_present(whole)[0] - 400
    page.close()
    assert running.stop() == (0, "")


def surface_box(page: Any) -> tuple[int, np.ndarray]:
    """Return how many pixels of the 3D view are not background, and the picture; key and bar left out."""
    from matplotlib.image import imread

    settle(page)
    pixels = imread(io.BytesIO(page.locator("canvas.surface").screenshot()))[70:-90, 6:-6, :3]
    return int((np.abs(pixels - pixels[0, 0]).max(axis=2) > 0.1).sum()), pixels


def set_slider(page: Any, name: str, value: str) -> None:
    page.get_by_role("spinbutton", name=name).fill(value)
    page.get_by_role("spinbutton", name=name).press("Enter")


def test_clipping_and_cropping_cut_the_surface_and_clicks_go_through(served: Occupy, visit: Any) -> None:
    page = visit(served.address())
    open_blob(page)
    page.locator("summary", has_text="clipping").click()
    page.get_by_label("Cross", exact=True).uncheck()
    page.get_by_label("Colour by").select_option("uniform")
    whole, before = surface_box(page)
    # The front half away: the inside of the back is seen, at the same outline.
    set_slider(page, "Clip", "0.5")
    clipped, after = surface_box(page)
    assert clipped > 0.6 * whole
    assert float((np.abs(before - after).max(axis=2) > 0.1).mean()) > 0.02
    # A click now meets the far wall, half the ball's diameter or more behind the front.
    centre = page.locator("canvas.surface").bounding_box()
    middle = (centre["x"] + centre["width"] / 2, centre["y"] + centre["height"] / 2)

    def depth() -> float:
        page.mouse.click(*middle)
        page.wait_for_timeout(300)
        return float(page.get_by_role("slider", name="Slice along z").input_value())

    back = depth()
    set_slider(page, "Clip", "0")
    front = depth()
    assert front - back > 0.25 * 48
    set_slider(page, "Clip", "1")
    assert surface_box(page)[0] < 0.05 * whole
    set_slider(page, "Clip", "0")
    assert abs(surface_box(page)[0] - whole) < 0.01 * whole
    # A cube of 40 Å around the middle of the front: of the ball's disc only about a square of that side.
    set_slider(page, "Crop", "40")
    cropped = surface_box(page)[0]
    assert 0.05 * whole < cropped < 0.6 * whole
    set_slider(page, "Crop", "120")
    assert surface_box(page)[0] > 0.95 * whole


def test_the_axes_turn_with_the_map_and_a_click_looks_along_one(served: Occupy, visit: Any) -> None:
    page = visit(served.address())
    open_blob(page)

    def ends() -> dict[str, tuple[float, float]]:
        settle(page)
        found = page.eval_on_selector_all(
            ".gizmo text",
            "all => all.map((t) => [t.dataset.axis, +t.getAttribute('x'), +t.getAttribute('y')])",
        )
        return {name: (x, y) for name, x, y in found}

    first = ends()
    assert first["x"][0] > 20
    assert first["y"][1] < -20  # up, and the page's y points down
    assert np.hypot(*first["z"]) < 1
    for axis in "xyz":
        page.locator(f".gizmo [data-axis={axis}]").click()
        assert np.hypot(*ends()[axis]) < 1
        others = [np.hypot(*end) for name, end in ends().items() if name != axis]
        assert min(others) > 20
    page.locator("canvas.surface").focus()
    page.keyboard.press("ArrowLeft")
    assert np.hypot(*ends()["z"]) > 1


def test_what_changed_is_undone_and_done_again(served: Occupy, visit: Any) -> None:
    page = visit(served.address())
    open_blob(page)
    level = page.get_by_role("spinbutton", name="Level")
    first, colour = level.input_value(), page.get_by_label("Colour by").input_value()
    page.wait_for_timeout(800)
    assert page.get_by_role("button", name="Undo").is_disabled()
    set_slider(page, "Level", "0.9")
    page.wait_for_function("() => !document.querySelector('[aria-label=Undo]').disabled")
    page.get_by_label("Colour by").select_option("confidence")
    page.wait_for_timeout(600)
    page.locator("[data-layer=confidence]").uncheck()
    page.wait_for_timeout(600)
    page.get_by_role("tab", name="Modify").click()
    page.get_by_role("radio", name="Amplify").click()
    page.wait_for_timeout(800)
    page.locator("canvas.surface").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(600)
    undo = page.get_by_role("button", name="Undo")
    undo.click()  # the turn
    undo.click()
    page.wait_for_selector(".segments [data-value=none][aria-checked=true]")
    assert page.locator(".axis canvas").count() == 6
    page.locator("body").click(position={"x": 5, "y": 500})
    page.keyboard.press("Control+z")
    assert page.locator(".axis canvas").count() == 9
    page.keyboard.press("Control+z")
    assert page.get_by_label("Colour by").input_value() == colour
    assert level.input_value() == "0.9"
    undo.click()
    assert level.input_value() == first
    page.wait_for_timeout(600)
    assert undo.is_disabled()
    for _ in range(4):
        page.keyboard.press("Control+y")
    assert level.input_value() == "0.9"
    assert page.get_by_label("Colour by").input_value() == "confidence"
    assert page.locator(".axis canvas").count() == 6
    page.wait_for_selector(".segments [data-value=amplify][aria-checked=true]")


def test_views_are_kept_by_the_browser_and_shown_again(served: Occupy, visit: Any) -> None:
    page = visit(served.address())
    open_blob(page)
    page.locator("summary", has_text="clipping").click()
    page.locator("canvas.surface").focus()
    for key in ("ArrowLeft", "ArrowUp", "+"):
        page.keyboard.press(key)
    set_slider(page, "Crop", "60")
    page.get_by_label("Colour by").select_option("confidence")
    settle(page)
    page.get_by_role("button", name="Keep").click()
    page.mouse.move(1, 1)
    settle(page)
    before = page.locator("canvas.surface").screenshot()
    page.get_by_role("button", name="Reset").click()
    set_slider(page, "Crop", "500")
    set_slider(page, "Level", "0.8")
    page.get_by_label("Colour by").select_option("scale")
    page.reload()
    page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)
    settle(page)
    assert differing(before, page.locator("canvas.surface").screenshot()) > 0.02
    page.locator(".views button", has_text="1").click()
    page.mouse.move(1, 1)
    for _ in range(40):
        if differing(before, page.locator("canvas.surface").screenshot()) < 0.004:
            break
        page.wait_for_timeout(250)
    else:
        raise AssertionError("not the view that was kept")
    page.get_by_role("button", name="Forget view 1").click()
    assert page.locator(".views button", has_text="1").count() == 0


def test_up_to_six_maps_share_one_camera_and_their_levels_move_together(
    shelf_folder: Path, tmp_path: Path, visit: Any
) -> None:
    names = [f"m{i}.mrc" for i in range(7)]
    for i, name in enumerate(names):
        blob = read_map(shelf_folder / "blob.mrc")
        # Another unit each: the same share of its own level is the same surface.
        write_map(tmp_path / name, blob.with_data(blob.data * np.float32(1 + i)))
    running = Occupy(str(tmp_path))
    page = visit(running.address())
    for name in names:
        to_files(page)
        page.locator(".welcome .files li", has_text=name).first.click()
        page.wait_for_selector(f"[role=tab][title='{name}'][aria-selected=true]")
        page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)
    page.locator("summary", has_text="Other open maps").click()
    for check in page.locator("[data-beside]").all()[:5]:
        check.check()
    assert page.locator("[data-beside]").all()[5].is_disabled()
    page.wait_for_function("() => document.querySelectorAll('canvas.other[data-ready=fine]').length === 5")
    page.locator("summary", has_text="Other open maps").click()
    page.get_by_label("Cross", exact=True).uncheck()
    settle(page)
    others = page.locator("canvas.other")

    def sizes() -> list[int]:
        settle(page)
        return [int((body(c) > 0.1).sum()) for c in others.all()]

    def body(canvas: Any) -> np.ndarray:
        from matplotlib.image import imread

        pixels = imread(io.BytesIO(canvas.screenshot()))[30:-8, 8:-8, :3]
        return np.abs(pixels - pixels[0, 0]).max(axis=2)

    first = sizes()
    assert min(first) > 500
    assert max(first) < 1.03 * min(first)
    for canvas in others.all():
        box = canvas.bounding_box()
        assert box["width"] > 100
        assert box["height"] > 80
    before = [c.screenshot() for c in others.all()]
    page.locator("canvas.surface").focus()
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
    settle(page)
    turned = [c.screenshot() for c in others.all()]
    assert all(differing(a, b) > 0.02 for a, b in zip(before, turned, strict=True))
    # Turned by one of the others, the first follows too.
    picture = page.locator("canvas.surface").screenshot()
    others.nth(2).focus()
    page.keyboard.press("ArrowUp")
    settle(page)
    assert differing(picture, page.locator("canvas.surface").screenshot()) > 0.005
    level = float(page.get_by_role("spinbutton", name="Level").input_value())
    set_slider(page, "Level", f"{2.2 * level:.4g}")
    page.wait_for_timeout(1500)
    smaller = sizes()
    assert all(b < 0.97 * a for a, b in zip(first, smaller, strict=True))
    page.close()
    assert running.stop() == (0, "")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1000, 700), (1440, 900)])
def test_nothing_overflows_and_expert_settings_are_folded_and_explained(
    served: Occupy, visit: Any, size: tuple[int, int], scheme: str
) -> None:
    page = visit(served.address(), size, scheme)
    open_blob(page)
    page.wait_for_function("() => document.querySelector('.command').textContent.includes('occupy')")
    assert page.locator("[data-setting=lowpass]").is_visible()
    assert not page.locator("[data-setting=tau]").is_visible()
    for summary in page.locator("summary").all():
        summary.click()
    for field in page.locator("[data-setting]").all():
        row = field.locator("xpath=..")
        assert "_" not in row.locator("span").inner_text()
        assert len(row.locator("small").inner_text()) > 5
    terms = page.locator(".terms").inner_text()
    assert "tile" in terms
    assert "power" in terms
    too_wide = """() => [document.documentElement, ...document.querySelectorAll('main *')].filter((e) =>
      e instanceof HTMLElement && e.clientWidth && e.scrollWidth > e.clientWidth + 1
      && !e.matches('input, select, .caption')
      && !['auto', 'scroll'].includes(getComputedStyle(e).overflowX))
      .map((e) => `${e.tagName}.${e.className}`)"""
    outside = """() => [...document.querySelectorAll('.panel :is(button, input, select, p, table)')]
      .map((e) => [e, e.getBoundingClientRect(), e.closest('.panels').getBoundingClientRect()])
      .filter(([_, a, b]) => a.width && (a.right > b.right + 1 || a.left < b.left - 1))
      .map(([e]) => e.outerHTML.slice(0, 80))"""
    for name in ("Estimate", "Solvent", "Modify", "Masks", "Model", "Export"):
        page.get_by_role("tab", name=name).click()
        assert page.evaluate(too_wide) == []
        assert page.evaluate(outside) == []


def test_a_table_of_many_maps_is_paged_sorted_and_filtered(tmp_path: Path, visit: Any) -> None:
    write_set(tmp_path / "many", 60)
    running = Occupy(str(tmp_path / "many"))
    page = visit(running.address())
    page.wait_for_selector(".gallery[data-ready='0']", timeout=30000)

    def rows() -> list[str]:
        return page.eval_on_selector_all(
            ".heat tbody tr:not(.weights) th", "all => all.map((t) => t.textContent)"
        )

    def columns() -> list[str]:
        return page.eval_on_selector_all(".heat thead th[role]", "all => all.map((t) => t.textContent)")

    # What all names share is left out, in the table and below the pictures; nothing is cut.
    assert columns() == [f"{i:03d}" for i in range(1, 25)]
    assert page.locator(".thumb span").first.inner_text() == "001"
    for name in page.locator(".heat thead th span, .thumb span").all():
        assert name.evaluate("(e) => e.clientHeight > 8 && e.scrollWidth <= e.clientWidth + 1")
    assert rows() == ["lobe_a", "lobe_b", "core"]
    page.get_by_label("Order of the regions").select_option("name")
    assert rows() == ["core", "lobe_a", "lobe_b"]
    page.locator(".heat thead th", has_text="003").click()
    assert rows() == ["lobe_a", "lobe_b", "core"]
    page.get_by_label("Filter regions").fill("LOBE")
    assert rows() == ["lobe_a", "lobe_b"]
    cell = page.locator("td[data-map='2'][data-region='1']")
    assert cell.get_attribute("title") == "lobe_a in class_003: occupancy 0.0339 ± 0.02"
    assert "±" not in cell.inner_text()
    page.get_by_label("± in cells").check()
    assert cell.inner_text().split() == ["0.03", "±", "0.02"]
    # The next page of pictures is the next page of columns; a region's heading orders the maps by it.
    page.get_by_role("button", name="Next page").click()
    assert columns()[0] == "025"
    page.wait_for_selector(".gallery[data-ready='1']", timeout=30000)
    page.locator(".heat tbody th", has_text="lobe_a").click()
    assert columns() == [f"{i:03d}" for i in range(60, 36, -1)]
    assert page.locator(".thumb span").first.inner_text() == "060"
    page.close()
    assert running.stop() == (0, "")


def test_a_failed_estimate_says_why_and_is_tried_again_in_place(
    server: Any, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, estimate = [], Inputs.estimate

    def failing(self: Inputs, settings: Any = None, progress: Any = None) -> Any:
        asked.append(settings.lowpass)
        if settings.lowpass is None:
            raise InputError("no content in this map")
        return estimate(self, settings, progress)

    monkeypatch.setattr(Inputs, "estimate", failing)
    page = visit(f"http://127.0.0.1:{server.port}/?token={server.access.new_code()}")
    to_files(page)
    page.locator(".welcome .files li", has_text="blob.mrc").first.click()
    for _ in range(2):
        page.wait_for_selector(".waiting h3:has-text('Not estimated')")
        assert page.locator(".stageline").inner_text() == "no content in this map"
        # The map itself is still seen; on a busy machine its surface comes after the message.
        page.wait_for_selector("canvas.surface[data-ready^=read]")
        page.get_by_role("button", name="Estimate again").click()
    page.reload()
    page.wait_for_selector(".waiting h3:has-text('Not estimated')")
    tabs = page.locator("[role=tab][title='blob.mrc']").count()
    page.get_by_label("Low-pass").fill("12")
    page.get_by_role("button", name="Estimate again").click()
    page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=20000)
    assert asked[-1] == 12
    assert page.locator("[role=tab][title='blob.mrc']").count() == tabs
    assert page.locator("[data-setting=lowpass]").input_value() == "12"


def test_settings_go_back_to_those_of_what_is_shown(served: Occupy, visit: Any) -> None:
    page = visit(served.address())
    open_blob(page)
    field, back = (
        page.locator("[data-setting=lowpass]"),
        page.get_by_role("button", name="Back to those shown"),
    )
    page.wait_for_timeout(600)
    assert back.is_hidden()
    for value in ("14", "20"):
        field.fill(value)
        field.press("Enter")
        back.wait_for(state="visible")
        page.wait_for_timeout(600)
    page.get_by_role("button", name="Undo").click()
    assert field.input_value() == "14"
    page.get_by_role("button", name="Redo").click()
    assert field.input_value() == "20"
    back.click()
    back.wait_for(state="hidden")
    assert field.input_value() == ""
    page.locator(".primary.pending").wait_for(state="detached")


def test_a_crop_box_of_any_shape_by_numbers_and_by_dragged_faces(served: Occupy, visit: Any) -> None:
    page = visit(served.address())
    open_blob(page)
    page.locator("summary", has_text="clipping").click()
    page.get_by_label("Cross", exact=True).uncheck()
    page.get_by_label("Colour by").select_option("uniform")
    assert page.locator(".face:not([hidden])").count() == 0
    whole = surface_box(page)[0]
    low, high = (page.get_by_label(f"Face x {end}") for end in ("from", "to"))
    ends = [float(low.input_value()), float(high.input_value())]
    assert ends == pytest.approx([5.0, 5.0 + 47 * 2.5])
    # The right half away.
    high.fill(str(sum(ends) / 2))
    high.press("Enter")
    settle(page)
    half = surface_box(page)[0]
    assert 0.4 * whole < half < 0.75 * whole
    # Its face is seen from the side; those of z point to the viewer.
    assert page.locator(".face:not([hidden])").count() == 4
    handle = page.get_by_title("Drag to crop x to")
    at = handle.bounding_box()
    middle = (at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 40, middle[1] + 25, steps=4)
    page.mouse.up()
    settle(page)
    moved = handle.bounding_box()
    assert moved["x"] - at["x"] == pytest.approx(-40, abs=2)
    assert moved["y"] == pytest.approx(at["y"], abs=2)
    assert float(high.input_value()) < sum(ends) / 2 - 5
    assert surface_box(page)[0] < 0.95 * half
    # No face passes the one opposite, nor the end of the box.
    low.fill("1000")
    low.press("Enter")
    assert float(low.input_value()) == pytest.approx(float(high.input_value()) - 1)
    page.wait_for_timeout(600)
    low.fill("-1000")
    low.press("Enter")
    assert float(low.input_value()) == 5
    page.wait_for_timeout(600)
    page.get_by_role("button", name="Undo").click()
    assert float(low.input_value()) > 5
    page.get_by_role("button", name="Uncrop").click()
    assert surface_box(page)[0] > 0.95 * whole


def test_files_of_the_users_computer_are_chosen_or_dropped_and_opened(
    visit: Any, shelf_folder: Path, tmp_path: Path
) -> None:
    running = Occupy(cwd=tmp_path)
    page = visit(running.address(), quiet=False)
    page.wait_for_selector(".welcome .files li")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload …").click()
    chooser.value.set_files(str(shelf_folder / "blob.mrc"))
    page.wait_for_selector("canvas.surface[data-ready=fine]", timeout=30000)
    assert (tmp_path / "blob.mrc").read_bytes() == (shelf_folder / "blob.mrc").read_bytes()
    # Dropped on the page of the map: what is there already is not written over, a model is taken.
    drop = """([name, text]) => {
      const data = new DataTransfer();
      data.items.add(new File([text], name));
      document.querySelector('canvas.surface, .welcome').dispatchEvent(
        new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); }"""
    page.evaluate(drop, ["blob.mrc", "other"])
    page.wait_for_selector(".openerror.bad")
    assert "already" in page.locator(".openerror").inner_text()
    page.evaluate(drop, ["model.pdb", "END"])
    page.wait_for_function("() => document.querySelector('.openerror').textContent.includes('panel Model')")
    page.wait_for_selector(
        ".welcome .files li[data-name='model.pdb'], .welcome .files li[data-name='blob.mrc']"
    )
    page.evaluate("""() => { Object.defineProperty(File.prototype, 'size', { get: () => 1e15 }); }""")
    page.evaluate(drop, ["huge.mrc", "x"])
    page.wait_for_function("() => document.querySelector('.openerror').textContent.includes('at most')")
    assert {path.name for path in tmp_path.iterdir()} == {"blob.mrc", "model.pdb"}
    page.close()
    assert running.stop() == (0, "")
