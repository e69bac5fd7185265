"""Work together with RELION: inside the loop of a classification."""
