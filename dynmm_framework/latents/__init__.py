"""The joint space: fusion of what is there, losses, the map from content, blended scores."""
