"""Methods that propagate the score backwards through the network as relevance."""
