"""Searches for better settings: space, sampler, trials through the engine, results."""
