"""Writes the pages of the documentation that follow from the code: methods, measures, gallery and messages."""
