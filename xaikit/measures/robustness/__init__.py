"""Measures of whether a map is stable under irrelevant changes; they compute further maps."""
