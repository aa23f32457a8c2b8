"""Reader of sparse matrices of users and items."""
