"""Engines: who computes the chunks of a plan, and where."""
