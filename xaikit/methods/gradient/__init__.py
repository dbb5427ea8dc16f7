"""Methods that differentiate the score by the input."""
