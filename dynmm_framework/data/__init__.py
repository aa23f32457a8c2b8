"""Interactions, items and users as columns; readers' tools, filters, splits and candidates."""
