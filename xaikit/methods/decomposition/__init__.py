"""Methods that hand the score back through the network as relevance."""
