"""Readers of MovieLens-100K and MovieLens-1M."""
