"""Regions of a map (chains, residues, masks), what they read, and how they go together."""
