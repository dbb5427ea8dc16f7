"""Measurements of the local page."""
