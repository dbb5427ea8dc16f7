"""One file a network; each registers itself."""
