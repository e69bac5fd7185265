"""Several classifications of the same particles: what they agree on. Arrays only."""
