"""Evidence: items of the user's history that the same people chose as a recommended one."""
