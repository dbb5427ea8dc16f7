"""Methods that perturb the input and observe the score."""
