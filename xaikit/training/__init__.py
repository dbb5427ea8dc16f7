"""Training: from a recipe to a folder that `xaikit.load` opens."""
