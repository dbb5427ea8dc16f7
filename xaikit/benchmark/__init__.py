"""Benchmarks: methods x measures x images, one row for each image and method."""
