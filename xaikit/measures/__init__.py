"""The measures of explanations: a folder a kind, a file a measure."""
