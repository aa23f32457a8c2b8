"""Ranking accuracy and beyond: the metrics that come with the framework."""
