"""Make the reference page of Python names from the docstrings.

    python tools/api_page.py [--check]

Writes ``docs/reference/python-api.md``; with ``--check`` nothing is written, and a page that differs from the
docstrings is an error.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import occupy

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/python-api.md"
HEAD = """# Python names

<!-- Made by tools/api_page.py from the docstrings; change those. -->

Everything public is in the package `occupy`; names are loaded when first used. Arrays are float32 in the
order (sections, rows, columns), lengths are in Å. A longer example:
[Use it from Python](../how-to/python.md).

"""
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)


def summary(name: str) -> str:
    """First line of a name's docstring."""
    return (inspect.getdoc(getattr(occupy, name)) or "").partition("\n")[0]


def signature(name: str, thing: Any) -> str:
    """How a function or class is called, without the quotes and rooms of its annotations."""
    if not callable(thing):
        return name
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return f"{name}(text)"
    text = re.sub(r"<factory>|<[^<>]* object[^<>]*>", "…", str(inspect.signature(thing)))
    return name + re.sub(r"'|\boccupy(?:\.\w+)+\.|\bnpt\.|\bnp\.", "", text)


def body(text: str) -> str:
    """Docstring as Markdown: its sections as bold lines, their fields as a list."""
    parts = SECTION.split(text)
    out = [parts[0].strip()]
    for title, rest in zip(parts[1::2], parts[2::2], strict=True):
        out.append(f"**{title}**\n\n{fields(rest) if title != 'Notes' else rest.strip()}")
    return "\n\n".join(out).replace("``", "`")


def fields(text: str) -> str:
    """Fields of a numpydoc section as list items."""
    items: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}" if line.strip() else ""
        elif line.strip():
            name, _, kind = line.partition(" : ")
            items.append(f"* `{name}`" + (f" ({kind}):" if kind else ":"))
    return "\n".join(items)


def methods(thing: Any) -> list[tuple[str, str]]:
    """Public methods and properties of a class with the first line of their docstrings."""
    if not inspect.isclass(thing) or issubclass(thing, Exception):
        return []
    found = []
    for name, value in vars(thing).items():
        text = inspect.getdoc(getattr(value, "func", value))
        if name.startswith("_") or not text or not (callable(value) or hasattr(value, "__get__")):
            continue
        found.append((f"{name}()" if inspect.isfunction(value) else name, text.partition("\n")[0]))
    return found


def entry(name: str) -> str:
    """Section of the page for one public name."""
    thing = getattr(occupy, name)
    head = f'<a id="{_anchor(name)}"></a>\n\n## {name}'
    text = f"{head}\n\n```text\n{signature(name, thing)}\n```\n\n{body(inspect.getdoc(thing) or '')}\n"
    listed = methods(thing)
    if listed:
        text += "\n| attribute | what it is |\n|---|---|\n"
        text += "".join(f"| `{n}` | {what.replace('|', '/').replace('``', '`')} |\n" for n, what in listed)
    return text


def _anchor(name: str) -> str:
    """Anchor of a name's section: a function may have the name of the class it returns, in small letters."""
    return ("class-" if inspect.isclass(getattr(occupy, name)) else "") + name.lower()


def page() -> str:
    """Make the whole page."""
    names = [name for name in occupy.__all__ if not name.startswith("_")]
    table = "| name | what it is |\n|---|---|\n"
    for name in names:
        table += f"| [`{name}`](#{_anchor(name)}) | {summary(name).replace('``', '`')} |\n"
    return HEAD + table + "\n" + "\n".join(entry(name) for name in names)


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    made = page()
    if not parser.parse_args().check:
        PAGE.write_text(made, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != made:
        print(f"{PAGE.name} differs from the docstrings: run tools/api_page.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
