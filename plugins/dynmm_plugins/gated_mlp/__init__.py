"""Gated MLP: corrects frozen latents by what recent windows say."""
