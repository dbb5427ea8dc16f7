"""Measures of whether a map lies on known evidence; they need masks and run no forward."""
