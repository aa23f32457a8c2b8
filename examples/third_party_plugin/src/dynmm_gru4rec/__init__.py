"""GRU4Rec, a plugin of dynmm."""
