"""Reviewed records of components, datasets, models and pipelines."""
