"""Occupancy of parts from single images, against the truth."""
