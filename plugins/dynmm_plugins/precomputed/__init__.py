"""features that exist already."""
