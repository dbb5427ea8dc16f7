"""Methods that weight the activations of one layer."""
