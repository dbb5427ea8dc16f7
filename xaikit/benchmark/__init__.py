"""The benchmark: methods x measures x images, one row an image and method."""
