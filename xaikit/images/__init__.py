"""Pixels and pictures: reading, fills, references, drawn scenes, folders, overlays."""
