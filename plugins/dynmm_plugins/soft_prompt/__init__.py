"""Soft prompts: latents as tokens of a frozen language model."""
