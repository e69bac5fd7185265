"""Data that ship with the package: the model that ``occupy demo`` simulates its map from (see README.md)."""
