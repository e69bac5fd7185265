"""The command line: thin, computes nothing."""
