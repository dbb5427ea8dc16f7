"""The wrapped network: pixels in, logits out; its layers, hooks and targets."""
