"""LATTICE: LightGCN with a graph of items mined from their content."""
