"""Measures of attribution maps: one folder per kind, one file per measure."""
