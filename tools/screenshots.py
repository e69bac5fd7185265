"""Make the pictures of the documentation: the demo's, and viewer, report and heat map at maps you name.

    python tools/screenshots.py MAP [--set FOLDER] [--job FOLDER --model FILE --regions FILE] [-o docs/images]

MAP and the set folder are opened in the viewer; the job is that of docs/tutorial/classes.md. Needs Chromium
and the extras web and dev.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools.run_docs import shrink

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
READY = "canvas.surface[data-ready=fine]"


@contextmanager
def viewer(path: Path) -> Iterator[str]:
    """Serve a map, result or set; yield the address."""
    command = [sys.executable, "-m", "occupy", "view", str(path), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def look(page: Any) -> None:
    """Wait for a map, and turn it."""
    page.wait_for_selector(READY, timeout=60000)
    # Turned a little, so that it is seen to be a surface.
    page.locator("canvas.surface").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    page.get_by_role("tab", name="Solvent").click()
    page.wait_for_timeout(800)


def change(page: Any) -> None:
    """Show a modification."""
    look(page)
    page.get_by_role("tab", name="Modify").click()
    page.get_by_role("radio", name="Amplify").click()
    page.get_by_role("button", name="Show in slices").click()
    page.get_by_role("button", name="Colour by factor").click()
    page.wait_for_timeout(1200)


def compare(page: Any) -> None:
    """Show two maps of a set and their difference."""
    page.wait_for_selector(".gallery[data-ready='0']", timeout=60000)
    page.locator("td[data-map='1']").first.click()
    page.get_by_role("radio", name="With difference").click()
    page.get_by_label("Map B").select_option(index=page.locator(".thumb").count() - 1)
    page.wait_for_selector("canvas[data-slot=difference][data-ready=fine]", timeout=60000)
    page.wait_for_timeout(1200)


def take(browser: Any, url: str, path: Path, act: Callable[[Any], None], scheme: str) -> None:
    """Open an address, do something there, and write a picture of it."""
    context = browser.new_context(viewport={"width": 1480, "height": 880}, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    act(page)
    page.screenshot(path=str(path))
    context.close()
    print(path)


def read(page: Any) -> None:
    """Wait for the surface of a report."""
    page.wait_for_selector("canvas[data-ready]", timeout=60000)
    page.wait_for_timeout(500)


def run(*words: str | Path) -> None:
    """Run the program."""
    subprocess.run([sys.executable, "-m", "occupy", *map(str, words), "--quiet"], check=True)


def copy_pictures(output: Path, scratch: Path, job: Path | None, more: list[str | Path]) -> None:
    """Copy the pictures the program itself writes: those of the demo, and the heat map of a job."""
    run("demo", "-o", scratch / "demo")
    found = list((scratch / "demo").glob("demo_*.png"))
    if job is not None:
        run("classes", job, "-o", scratch / "job", *more)
        shutil.move(scratch / "job" / "occupancy_heat_map.png", scratch / "job" / "classes_heat_map.png")
        found.append(scratch / "job" / "classes_heat_map.png")
    for path in found:
        shrink(path, output / path.name)
        print(output / path.name)


def main() -> None:
    """Take all pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("map", type=Path)
    parser.add_argument("--set", type=Path)
    parser.add_argument("--job", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--regions", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    said = parser.parse_args()
    more: list[str | Path] = []
    for option in ("model", "regions"):
        if getattr(said, option) is not None:
            more += [f"--{option}", getattr(said, option)]
    with tempfile.TemporaryDirectory() as scratch:
        copy_pictures(said.output, Path(scratch), said.job, more)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as play, tempfile.TemporaryDirectory() as scratch:
        browser = play.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        for name, act, scheme in (("map", look, "light"), ("modify", change, "dark")):
            # Each lets one browser in.
            with viewer(said.map) as url:
                take(browser, url, said.output / f"viewer_{name}.png", act, scheme)
        if said.set is not None:
            with viewer(said.set) as url:
                take(browser, url, said.output / "viewer_set.png", compare, "light")
        run("estimate", said.map, "-o", scratch, "--report")
        report = next(Path(scratch).glob("*_report.html"))
        take(browser, report.as_uri(), said.output / "report.png", read, "light")
        browser.close()


if __name__ == "__main__":
    main()
