"""Occupancy of parts from single images at known poses: arrays in, arrays out."""
