"""Engines: where the chunks of a plan are computed."""
