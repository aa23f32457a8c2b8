"""Frozen language models: loading, prompts, soft tokens, prefixes computed once, scores."""
