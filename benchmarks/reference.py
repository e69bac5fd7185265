"""OccuPy 0.1.13 in an environment of its own.

It needs NumPy 1 and imports a GUI toolkit even without a window; the module that draws the window is
replaced by an empty stand-in, nothing else of it is touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STAND_IN = """
import importlib.abc
import importlib.machinery
import sys
from unittest.mock import MagicMock

class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name == "occupy_lib.occupy_gui" or name.split(".")[0] == "PyQt5":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__ = [], spec
        return module
    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Absent())
from occupy_lib.occupy import app
app()
"""


def install(folder: Path) -> list[str]:
    """Install it below a folder (once); return the start of a command line."""
    python = folder / "reference" / "bin" / "python"
    script = folder / "reference_occupy.py"
    if not script.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "reference")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "occupy==0.1.13", "numpy<2"], check=True)
        script.write_text(STAND_IN)
    return [str(python), str(script)]


def environment() -> dict[str, str]:
    """Return an environment without settings meant for us."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
