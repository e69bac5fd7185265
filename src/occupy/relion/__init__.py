"""Work together with RELION: as an External job, and inside the loop of a classification."""
