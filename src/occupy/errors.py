"""What can go wrong: one base error, which the command line turns into one line and exit code 1."""

from __future__ import annotations

from dataclasses import dataclass


class OccupyError(Exception):
    """Base of every error this program raises on purpose."""


class InputError(OccupyError, ValueError):
    """An input or a setting is wrong: the message says what, where, and what to do."""


class OutputError(OccupyError, OSError):
    """A result could not be written."""


class DownloadError(OccupyError):
    """A download failed for a reason the user can act on."""


@dataclass(frozen=True)
class Notice:
    """Something that makes a result doubtful without making it wrong.

    Attributes
    ----------
    code : str
        Short stable name, for scripts (for example ``solvent-fit``).
    text : str
        One sentence for people.
    """

    code: str
    text: str

    @property
    def doubtful(self) -> bool:
        """Whether the result is worse for it; half-maps that were found beside a map make it better."""
        return self.code != "neighbours"

    @property
    def grave(self) -> bool:
        """Whether numbers must not be used as they are: pages, pictures and the viewer show it in red."""
        return self.code in ("masked", "contrast", "stack", "solvent-fit", "misaligned", "iteration-0")
