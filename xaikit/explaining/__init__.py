"""Explaining a folder of images."""
