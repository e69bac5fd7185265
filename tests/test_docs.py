"""What checks the pages of the documentation finds what is wrong there (`.ci/run` runs it on the pages)."""

import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def run(*pages):
    command = [sys.executable, "tools/run_docs.py", *map(str, pages)]
    return subprocess.run(command, cwd=HOME, capture_output=True, text=True, encoding="utf-8")


def test_what_is_printed_passes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint('scale', 0.5)\n```\n\n```text\nscale 0.51\n```\n")
    done = run(page)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_not_printed_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint('scale', 0.5)\n```\n\n```text\nscale 0.6\n```\n")
    done = run(page)
    assert done.returncode == 1
    assert done.stdout == f"{page}: -scale 0.6\n{page}: +scale 0.5\n"
