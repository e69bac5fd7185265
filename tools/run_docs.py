"""Run what the pages of the documentation show, and compare what it prints with what they say.

    python tools/run_docs.py [PAGE...] [--update]

Without pages: README.md and all of ``docs``. In each page every ``python`` block is run (what it prints
stands in the ``text`` block after it), every line of a ``console`` block that begins with ``$``, and every
``text`` block that begins with ``Usage: occupy`` is compared with that command's ``--help``. Each page has a
folder of its own, where the lines of ``<!-- run first: COMMAND -->`` were run by bash; ``$OCCUPY_DATA`` is
the folder of the test data, and a page that names it is left out, with a word, where there is none. A block
after ``<!-- not run: REASON -->`` is left as it is, and the reason printed. Numbers may be off by 0.02 or
2 %. A picture after ``<!-- made as: FILE -->`` must look like the FILE that the page's commands wrote. With
``--update`` the pages are rewritten, and these pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]*) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)
FIRST = re.compile(r"^<!-- run first: (.*) -->$", re.MULTILINE)
PICTURE = re.compile(r"^<!-- made as: (\S+) -->\n!\[[^\]]*\]\((\S+)\)$", re.MULTILINE)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
TOLERANCE = 0.02
FOREIGN = ("chimerax", "relion_reconstruct")
"""Programs that are not run here."""
MARKS = ("---", "+++", "@@ ")


def shell(command: str) -> str:
    """Run a command as a user types it and return what it prints, warnings included."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PATH": path, "COLUMNS": "80"},
    )
    if done.returncode:
        raise SystemExit(f"$ {command}\n{done.stdout}exit code {done.returncode}")
    return done.stdout


def console(text: str) -> str:
    """Return a console block with the lines its commands print now."""
    out = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, before = part.partition("\n")
        printed = before if command.split()[0] in FOREIGN else shell(command)
        out.append(f"$ {command}\n{printed}")
    return "".join(out)


def python(text: str, names: dict[str, Any]) -> str:
    """Run Python and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, "<page>", "exec"), names)
    return printed.getvalue()


def run_block(kind: str, text: str, names: dict[str, Any], printed: str | None) -> tuple[str, str | None]:
    """Return a block as it is now, and what the next ``text`` block should hold."""
    if kind == "python":
        return text, python(text, names)
    if kind == "console":
        return console(text), None
    usage = re.match(r"Usage: (occupy(?: [a-z0-9-]+)*) \[OPTIONS\]", text)
    if kind == "text" and usage:
        return shell(f"{usage[1]} --help"), printed
    if kind == "text" and printed:
        return printed, None
    return text, printed


def run_page(page: str) -> str:
    """Return a page with everything in it run anew, in the current folder."""
    names: dict[str, Any] = {}
    out, end, printed, parts = [], 0, None, ""
    for command in FIRST.findall(page):
        shell(command)
    for block in BLOCK.finditer(page):
        kind, text = block["kind"], block["text"]
        if block["why"]:
            print(f"  not run: {text.partition(chr(10))[0]}: {block['why']}")
            continue
        if kind == "yaml":
            parts = text
        if kind == "console":
            for name in re.findall(r"--(?:regions|parts) (\S+)", text):
                Path(name).write_text(parts, encoding="utf-8")
        text, printed = run_block(kind, text, names, printed)
        out += [page[end : block.start("text")], text]
        end = block.end("text")
    return "".join([*out, page[end:]])


def same(one: str, other: str) -> bool:
    """Tell whether two texts differ by nothing but a little in their numbers."""
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return all(abs(float(a) - float(b)) <= TOLERANCE * max(1, abs(float(a))) for a, b in pairs)


def differences(page: str, found: str) -> list[str]:
    """Return the lines that are not the same."""
    before, now = page.splitlines(), found.splitlines()
    if len(before) == len(now):
        now = [old if same(old, new) else new for old, new in zip(before, now, strict=True)]
    return [line for line in difflib.unified_diff(before, now, n=0, lineterm="") if line[:3] not in MARKS]


@contextlib.contextmanager
def working_folder() -> Iterator[None]:
    """Work in a new folder, with no settings of the machine's user at hand."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(home)


def shrink(path: Path, to: Path) -> None:
    """Write a picture of 300 dpi as a page needs it."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    picture.thumbnail((1536, 1760))
    # Not by median cut, which leaves few colours to a small colour bar.
    picture.quantize(256, method=Image.Quantize.MAXCOVERAGE).save(to, optimize=True)


def unlike(made: Path, shown: Path) -> str:
    """Say in what two pictures differ more than fonts and colours do from one computer to another."""
    from PIL import Image, ImageChops, ImageStat

    missing = next((path for path in (made, shown) if not path.is_file()), None)
    if missing is not None:
        return f"there is no {missing.name}"
    one, other = (Image.open(path).convert("RGB") for path in (made, shown))
    shapes = [picture.width / picture.height for picture in (one, other)]
    small = [picture.resize((96, 96), Image.Resampling.BOX) for picture in (one, other)]
    off = max(ImageStat.Stat(ImageChops.difference(*small)).mean) / 255
    same_shape = abs(shapes[0] / shapes[1] - 1) < TOLERANCE
    # The same picture from another run is off by 0.003 at most, one of another map by 0.05.
    alike = same_shape and off < 0.01
    return "" if alike else f"{shown.name} is not what is made now (off by {off:.3f})"


def pictures(page: Path, text: str, update: bool) -> list[str]:
    """Return what is wrong with the pictures that a page's commands made, in the current folder."""
    wrong = []
    for made, shown in PICTURE.findall(text):
        if update:
            shrink(Path(made), page.parent / shown)
        elif why := unlike(Path(made), page.parent / shown):
            wrong.append(why)
    return wrong


def check(path: Path, update: bool) -> int:
    """Run one page and return how many of its lines are wrong."""
    text = path.read_text(encoding="utf-8")
    if "$OCCUPY_DATA" in text and not os.environ.get("OCCUPY_DATA"):
        print(f"{path}: not run: it needs the test data ($OCCUPY_DATA)")
        return 0
    with working_folder():
        found = run_page(text)
        wrong = pictures(path, text, update)
    if update:
        path.write_text(found, encoding="utf-8")
        return 0
    wrong += differences(text, found)
    for line in wrong:
        print(f"{path}: {line}")
    return len(wrong)


def main() -> int:
    """Run pages; exit 1 where one says something else than what is printed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", type=Path, nargs="*")
    parser.add_argument("--update", action="store_true")
    given = parser.parse_args()
    pages: Sequence[Path] = given.pages or [HOME / "README.md", *sorted((HOME / "docs").rglob("*.md"))]
    return int(sum(check(page.absolute(), given.update) for page in pages) > 0)


if __name__ == "__main__":
    sys.exit(main())
