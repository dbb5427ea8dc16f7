"""Ratios against peers and against the limit, measured in one run; never a test. `make speed` runs them all."""
