"""Measures of whether a map changes when the network or the class does; they compute further maps."""
