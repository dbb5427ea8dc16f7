"""Measures that remove pixels in the order of a map and read the network's confidence."""
