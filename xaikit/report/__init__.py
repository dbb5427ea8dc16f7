"""Pictures, tables and the HTML page; no torch, no methods."""
