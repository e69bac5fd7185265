"""Run what a page of the documentation shows, and compare what it prints with what the page says.

    python tools/run_docs.py PAGE... [--update]

Runs every ``python`` block (what it prints stands in the ``text`` block after it) and every line of a
``console`` block that begins with ``$``, in a folder that holds the demo's results. Numbers may be off by
0.02 or 2 %. With ``--update`` the page is rewritten.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
TOLERANCE = 0.02
FOREIGN = ("chimerax",)
"""Programs that are not run here."""
MARKS = ("---", "+++", "@@ ")


def occupy(words: Sequence[str]) -> str:
    """Run the program and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "occupy", *words], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    return done.stdout


def console(text: str) -> str:
    """Return a console block with the lines its commands print now."""
    out = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, before = part.partition("\n")
        words = shlex.split(command)
        if words[0] in FOREIGN:
            printed = before
        elif words[0] == "occupy":
            printed = occupy(words[1:])
        else:
            printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        out.append(f"$ {command}\n{printed}")
    return "".join(out)


def python(text: str, names: dict[str, Any]) -> str:
    """Run Python and return what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(text, "<page>", "exec"), names)
    return printed.getvalue()


def run_page(page: str) -> str:
    """Return a page with everything in it run anew, in the current folder."""
    names: dict[str, Any] = {}
    out, end, printed, parts = [], 0, None, ""
    for block in BLOCK.finditer(page):
        kind, text = block.groups()
        if kind == "yaml":
            parts = text
        elif kind == "python":
            printed = python(text, names)
        elif kind == "console":
            for name in re.findall(r"--regions (\S+)", text):
                Path(name).write_text(parts, encoding="utf-8")
            text = console(text)
        elif kind == "text" and printed:
            text, printed = printed, None
        out += [page[end : block.start(2)], text]
        end = block.end(2)
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


def main() -> int:
    """Run pages; exit 1 where one says something else than what is printed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--update", action="store_true")
    said = parser.parse_args()
    wrong = 0
    for page in said.pages:
        path, home = page.absolute(), Path.cwd()
        text = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                if "occupy-demo" in text:
                    occupy(["demo", "--quiet"])
                found = run_page(text)
            finally:
                os.chdir(home)
        if said.update:
            path.write_text(found, encoding="utf-8")
        for line in differences(text, found):
            wrong += 1
            print(f"{page}: {line}")
    return int(wrong > 0 and not said.update)


if __name__ == "__main__":
    sys.exit(main())
