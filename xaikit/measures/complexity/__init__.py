"""Measures of how much of the image a map marks."""
