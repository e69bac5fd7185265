"""Accuracy of occupancies on maps whose truth is known; see benchmarks/accuracy/README.md."""
