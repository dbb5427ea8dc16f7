"""Pixels and pictures: reading, fills, reference images, synthetic images, folders, overlays."""
