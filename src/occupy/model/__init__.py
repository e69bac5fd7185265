"""Atomic models as plain arrays, and the joint fit of their parts to maps."""

from occupy.model.atomic import AtomicModel, Kind, Residue

__all__ = ["AtomicModel", "Kind", "Residue"]
