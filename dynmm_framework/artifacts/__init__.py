"""Stored files: atomic writes, arrays, manifests, the stage store, records and their sources."""
