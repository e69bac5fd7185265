"""OccuPy in Scipion. The program runs in an environment of its own; this plugin hands it files."""

import os
import shutil

import pwem
from pyworkflow.utils import Environ

__version__ = "0.2.0"
PROGRAM = "OCCUPY_PROGRAM"
"""Variable with the path of the program ``occupy``."""
_references = ["forsberg2023"]


class Plugin(pwem.Plugin):
    """Where the program is, and what it is called."""

    _url = "https://doi.org/10.1038/s41467-023-41478-1"

    @classmethod
    def _defineVariables(cls):
        cls._defineVar(PROGRAM, shutil.which("occupy") or "occupy")

    @classmethod
    def program(cls):
        """Return the path of the program.

        Returns
        -------
        str
            Of ``occupy``, from Scipion's configuration or the PATH.
        """
        return cls.getVar(PROGRAM)

    @classmethod
    def environment(cls):
        """Return the program's environment: without Scipion's own Python in it.

        Returns
        -------
        Environ
            Variable to value.
        """
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return Environ(kept)

    @classmethod
    def validateInstallation(cls):
        """Return what is missing, as Scipion asks it.

        Returns
        -------
        list of str
            One message, or none.
        """
        found = shutil.which(cls.program())
        return [] if found else [f"no program {cls.program()!r}: set {PROGRAM} in scipion.conf"]
