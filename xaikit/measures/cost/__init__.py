"""Measures of what an explanation costs, in addition to the time and passes recorded in every row."""
