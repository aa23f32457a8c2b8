"""Reader of people's own interaction files."""
