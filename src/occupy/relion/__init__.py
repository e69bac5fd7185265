"""Work together with RELION: the External job, and inside the loop of a classification."""
