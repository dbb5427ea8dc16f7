"""From rows to the numbers of a report."""
