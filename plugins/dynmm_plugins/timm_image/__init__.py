"""images by the networks of timm."""
