"""The version of the program, kept apart so that building and `--version` need no import of the rest."""

__version__ = "0.1.0"
