"""BPR-MF: matrix factorisation trained to rank."""
