"""Measures of what an explanation costs, beside the time and the passes that every row holds."""
