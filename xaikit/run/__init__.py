"""Running the network: contexts, batches, portions, costs and attributions."""
