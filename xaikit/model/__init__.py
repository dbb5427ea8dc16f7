"""The wrapped network: pixels in, logits out; its layers, hooks, targets and folded copy."""
