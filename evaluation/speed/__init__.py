"""Races of xaikit against other packages and against bare passes of the network; `make speed` runs them all."""
