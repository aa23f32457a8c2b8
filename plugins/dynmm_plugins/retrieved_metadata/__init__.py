"""Passages of the items' own texts, as evidence."""
