"""RELION's Class3D alone and with occupy in its loop, on particles whose true states are known."""
