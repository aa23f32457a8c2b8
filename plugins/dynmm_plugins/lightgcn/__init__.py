"""LightGCN: linear propagation on the user-item graph."""
