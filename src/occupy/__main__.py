"""Run as ``python -m occupy``."""

from occupy.cli.main import main

main()
