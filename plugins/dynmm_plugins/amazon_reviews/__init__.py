"""Reader of Amazon review dumps."""
