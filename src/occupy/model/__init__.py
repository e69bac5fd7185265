"""Atomic models as plain arrays, and the joint fit of their parts to maps."""

from occupy.model.atomic import Alternatives, AtomicModel, Kind, Residue

__all__ = ["Alternatives", "AtomicModel", "Kind", "Residue"]
