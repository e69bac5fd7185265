"""Files as they are in the world: maps, compressed maps, the EMDB archive."""
