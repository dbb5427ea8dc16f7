"""Sources of weights, one file each."""
