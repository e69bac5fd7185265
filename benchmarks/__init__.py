"""Measurements anyone can repeat; see docs/reference/benchmarks.md for the figures."""
