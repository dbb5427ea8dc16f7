"""The documentation: written pages, and the generator of those that follow from the code."""
