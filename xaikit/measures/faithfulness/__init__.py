"""Measures of whether a map marks what the network uses: they ask it about changed images."""
