"""Inside a RELION project: the External job."""
