"""Measures of whether a map stays when nothing that matters has changed; they explain again."""
