"""Where weights come from; one file a source."""
