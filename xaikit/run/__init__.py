"""How work goes through the network: context, batches, portions, memory, and what comes out."""
