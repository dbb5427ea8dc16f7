"""Explains image files and writes a folder of results."""
