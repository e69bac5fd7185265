"""Accuracy of occupancies on maps whose truth is known; see docs/explanation/accuracy.md."""
