"""A plugin-based framework for multimodal, LLM-based recommendation."""
