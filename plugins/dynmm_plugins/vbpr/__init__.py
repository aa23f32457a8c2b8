"""VBPR: matrix factorisation with factors of items' content."""
