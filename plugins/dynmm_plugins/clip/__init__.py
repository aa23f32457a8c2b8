"""images by CLIP."""
