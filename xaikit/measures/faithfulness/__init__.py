"""Measures of whether a map marks what the network uses; most of them run it on changed images."""
