"""Attributes of items as evidence, weighed by learned attention."""
