"""Architectures, one file each; every file registers its own."""
