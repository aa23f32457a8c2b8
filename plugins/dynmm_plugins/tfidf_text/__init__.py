"""texts by TF-IDF and truncated SVD."""
