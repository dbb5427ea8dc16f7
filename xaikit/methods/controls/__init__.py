"""Maps that know nothing of the model, or flatter a measure without explaining: every method must beat them."""
