"""Features that exist already."""
