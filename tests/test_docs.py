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


DRAW = "```python\nfrom PIL import Image\nImage.new('RGB', (60, 40), '{}').save('made.png')\n```\n\n"


def test_a_picture_must_look_like_the_one_that_the_page_makes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(DRAW.format("teal") + "<!-- made as: made.png -->\n![Teal](shown.png)\n")
    assert "there is no shown.png" in run(page).stdout
    assert run(page, "--update").returncode == 0
    done = run(page)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page.write_text(page.read_text().replace("teal", "red"))
    done = run(page)
    assert done.returncode == 1
    assert f"{page}: shown.png is not what is made now" in done.stdout
    page.write_text(page.read_text().replace("made as: made", "made as: other"))
    assert "there is no other.png" in run(page).stdout
