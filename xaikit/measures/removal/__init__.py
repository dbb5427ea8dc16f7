"""Measures of the network's confidence while pixels are removed in the order of a map."""
