"""Evidence: the items most like a recommended one, those of the user's own history first."""
