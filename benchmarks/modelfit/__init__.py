"""Joint fit of a model's parts, measured on maps whose truth is known."""
