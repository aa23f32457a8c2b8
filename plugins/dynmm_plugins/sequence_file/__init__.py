"""Reader of user sequences."""
