"""Make the pictures of the documentation: the demo's, and viewer, report and heat map at maps you name.

    python tools/screenshots.py MAP [--set FOLDER] [--job FOLDER --model FILE --regions FILE] [-o docs/images]
    python tools/screenshots.py MAP… --sheet FOLDER [--set FOLDER]… [--model FILE]

MAP and the set folder are opened in the viewer; the job is that of docs/tutorial/classes.md. With --sheet
every kind of picture is made of all maps and sets, into FOLDER, and contact sheets of them, to be looked at
before a release: viewer (light, dark, modification, set, model), reports on screen and printed (map, regions,
classes), figures, a notebook's output, every help at 80×24. The model, a file or a folder of them, belongs to
the first map and to the sets. Needs Chromium and the extras web and dev.
"""

from __future__ import annotations

import argparse
import html
import os
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


def trace(page: Any) -> None:
    """Show the model that lies beside a map."""
    look(page)
    page.get_by_role("tab", name="Model").click()
    page.locator(".panel .files li", has_text="model").first.click()
    page.wait_for_selector("body[data-parts]", timeout=120000)
    page.wait_for_timeout(1500)


def whole(browser: Any, url: str, path: Path, *, width: int = 1100, media: str = "screen") -> None:
    """Write a picture of a whole page, as on a screen or as printed."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=url.startswith("file:"))
    page = context.new_page()
    page.goto(url)
    page.wait_for_timeout(2500)
    page.emulate_media(media=media)
    page.wait_for_timeout(500)
    page.screenshot(path=str(path), full_page=True)
    context.close()


def both(browser: Any, report: Path, path: Path) -> None:
    """Write a report as on a screen, and as printed on A4."""
    whole(browser, report.as_uri(), path)
    whole(browser, report.as_uri(), path.with_stem(path.stem + "_print"), width=698, media="print")


def terminal(browser: Any, words: list[str], path: Path) -> None:
    """Write what a terminal of 80 columns and 24 lines shows first of a help."""
    command = [sys.executable, "-m", "occupy", *words, "--help"]
    text = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}
    ).stdout
    context = browser.new_context(viewport={"width": 740, "height": 480})
    page = context.new_page()
    shown = html.escape("\n".join(f"$ occupy {' '.join(words)} --help\n{text}".splitlines()[:24]))
    page.set_content(f'<pre style="font: 14px/18px monospace; width: 80ch; white-space: pre">{shown}</pre>')
    page.screenshot(path=str(path))
    context.close()


def notebook(browser: Any, path: Path, map_path: Path, target: Path) -> None:
    """Write what a notebook's page shows of a result where no kernel runs."""
    import occupy

    bundle = occupy.estimate(map_path)._repr_mimebundle_()
    text, picture = html.escape(bundle["text/plain"]), f"data:image/png;base64,{bundle['image/png']}"
    path.write_text(f"<pre>{text}</pre><img src='{picture}'>", encoding="utf-8")
    whole(browser, path.as_uri(), target)


def map_pictures(browser: Any, source: Path, folder: Path, scratch: Path) -> None:
    """Make everything there is of one map."""
    name = source.name.split(".")[0]
    done = scratch / name
    run("estimate", source, "-o", done, "--plot", "--figure-width", "two", "--report", "--amplify", "3")
    for path in done.glob("*.png"):
        shutil.copyfile(path, folder / f"{name}_{path.stem.rpartition('_')[2]}.png")
    both(browser, next(done.glob("*_report.html")), folder / f"{name}_report.png")
    for kind, act, scheme in (("light", look, "light"), ("dark", look, "dark"), ("modify", change, "light")):
        with viewer(source) as url:
            take(browser, url, folder / f"{name}_viewer_{kind}.png", act, scheme)


def model_pictures(browser: Any, source: Path, models: list[Path], folder: Path, scratch: Path) -> None:
    """Make everything there is of a map and a model."""
    done = scratch / "regions"
    run("regions", source, *(w for m in models for w in ("--model", m)), "-o", done, "--report")
    for path in done.glob("*.png"):
        shutil.copyfile(path, folder / f"model_{path.stem.rpartition('_')[2]}.png")
    both(browser, next(done.glob("*_report.html")), folder / "model_report.png")
    beside = scratch / "beside"
    beside.mkdir()
    shutil.copyfile(source, beside / source.name)
    shutil.copyfile(models[0], beside / f"model{''.join(models[0].suffixes)}")
    with viewer(beside / source.name) as url:
        take(browser, url, folder / "model_viewer.png", trace, "light")


def set_pictures(browser: Any, source: Path, models: list[Path], folder: Path, scratch: Path) -> None:
    """Make everything there is of a set."""
    done = scratch / f"set_{source.name}"
    run("classes", source, *(w for m in models for w in ("--model", m)), "-o", done, "--report")
    for path in done.glob("*.png"):
        shutil.copyfile(path, folder / f"{source.name}_{path.stem.removeprefix('occupancy_')}.png")
    both(browser, done / "occupy_report.html", folder / f"{source.name}_report.png")
    for kind, scheme in (("set", "light"), ("set_dark", "dark")):
        with viewer(done) as url:
            take(browser, url, folder / f"{source.name}_viewer_{kind}.png", compare, scheme)


def contact_sheets(folder: Path, across: int = 4, down: int = 3) -> None:
    """Write all pictures of a folder, small and with their names, onto sheets."""
    from PIL import Image, ImageDraw

    paths = sorted(p for p in folder.glob("*.png") if not p.name.startswith("sheet"))
    width, height, each = 620, 560, across * down
    for first in range(0, len(paths), each):
        sheet = Image.new("RGB", (across * width, down * height), "white")
        pen = ImageDraw.Draw(sheet)
        for k, path in enumerate(paths[first : first + each]):
            left, top = k % across * width, k // across * height
            small = _in_columns(Image.open(path).convert("RGB"))
            small.thumbnail((width - 16, height - 34))
            sheet.paste(small, (left + 8, top + 26))
            pen.text((left + 8, top + 6), path.stem, fill="black")
        sheet.save(folder / f"sheet_{first // each + 1:02}.png")


def _in_columns(picture: Any) -> Any:
    """Return a tall picture cut into columns side by side, to fill a place that is about square."""
    from PIL import Image

    width, height = picture.size
    count = max(1, round((height / width) ** 0.5))
    part = -(-height // count)
    out = Image.new("RGB", (count * width, part), "white")
    for k in range(count):
        out.paste(picture.crop((0, k * part, width, min(height, (k + 1) * part))), (k * width, 0))
    return out


def every_picture(browser: Any, said: argparse.Namespace) -> None:
    """Make every kind of picture of maps and sets, and contact sheets."""
    from occupy.cli.app import COMMANDS

    folder: Path = said.sheet
    folder.mkdir(parents=True, exist_ok=True)
    models = sorted(said.model.glob("*.pdb")) if said.model and said.model.is_dir() else [said.model]
    models = [path for path in models if path is not None]
    groups = [["mask", "solvent"], ["mask", "subtraction"], ["relion", "class3d-command"]]
    for words in [[], *([each] for each in COMMANDS if each != "legacy"), *groups]:
        terminal(browser, words, folder / f"help_{'_'.join(words) or 'occupy'}.png")
    with tempfile.TemporaryDirectory() as scratch:
        for source in said.maps:
            map_pictures(browser, source, folder, Path(scratch))
        notebook(browser, Path(scratch, "notebook.html"), said.maps[0], folder / "notebook.png")
        if models:
            model_pictures(browser, said.maps[0], models, folder, Path(scratch))
        for source in said.set:
            set_pictures(browser, source, models, folder, Path(scratch))
    contact_sheets(folder)


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
    parser.add_argument("maps", type=Path, nargs="+", metavar="MAP")
    parser.add_argument("--set", type=Path, action="append", default=[])
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--job", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--regions", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    said = parser.parse_args()
    if said.sheet is None:
        documents(said)
        return
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=_chromium(), headless=True, args=FLAGS)
        every_picture(browser, said)
        browser.close()


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("google-chrome")


def documents(said: argparse.Namespace) -> None:
    """Make the pictures of the documentation."""
    from playwright.sync_api import sync_playwright

    more: list[str | Path] = []
    for option in ("model", "regions"):
        if getattr(said, option) is not None:
            more += [f"--{option}", getattr(said, option)]
    said.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        copy_pictures(said.output, Path(scratch), said.job, more)
    with sync_playwright() as play, tempfile.TemporaryDirectory() as scratch:
        browser = play.chromium.launch(executable_path=_chromium(), headless=True, args=FLAGS)
        for name, act, scheme in (("map", look, "light"), ("modify", change, "dark")):
            # Each lets one browser in.
            with viewer(said.maps[0]) as url:
                take(browser, url, said.output / f"viewer_{name}.png", act, scheme)
        if said.set:
            with viewer(said.set[0]) as url:
                take(browser, url, said.output / "viewer_set.png", compare, "light")
        run("estimate", said.maps[0], "-o", scratch, "--report")
        report = next(Path(scratch).glob("*_report.html"))
        take(browser, report.as_uri(), said.output / "report.png", read, "light")
        browser.close()


if __name__ == "__main__":
    main()
