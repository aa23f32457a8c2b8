"""Causal language models of the transformers library."""
