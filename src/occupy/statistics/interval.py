"""Intervals from standard errors: one convention for maps, sets, regions and full scale."""

from __future__ import annotations

STANDARD_ERRORS_95 = 1.959964
"""Half a 95 % interval in standard errors; see docs/explanation/tuning.md for its measured coverage."""


def interval_95(value: float, error: float, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """95 % interval of a value within bounds: value ± 1.96 standard errors, cut off at the bounds."""
    reach = STANDARD_ERRORS_95 * error
    return max(low, value - reach), min(high, value + reach)
