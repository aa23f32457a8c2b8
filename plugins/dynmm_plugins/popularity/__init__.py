"""Popularity: the items that most users chose, for everyone."""
