"""Ranks, metrics, protocols and statistics. One evaluator scores every recommender."""
