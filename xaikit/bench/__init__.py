"""The benchmark: what is measured of which images, one row an image and method."""
