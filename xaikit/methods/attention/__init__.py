"""Methods of transformers: what tokens read of each other."""
