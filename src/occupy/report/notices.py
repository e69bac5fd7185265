"""Notices by what they mean for a reader: what makes a result doubtful, and what is only worth knowing."""

from __future__ import annotations

from collections.abc import Sequence

from occupy.errors import Notice

# Half-maps that were found beside a map and used: the result is better for it.
INFORMATION = ("neighbours",)


def doubtful(notices: Sequence[Notice]) -> list[Notice]:
    """Return the notices that make a result doubtful."""
    return [notice for notice in notices if notice.code not in INFORMATION]


def information(notices: Sequence[Notice]) -> list[Notice]:
    """Return the notices that are only worth knowing."""
    return [notice for notice in notices if notice.code in INFORMATION]
