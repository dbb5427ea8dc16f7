"""Measures of whether a map lies on evidence that is known; the network is not asked."""
