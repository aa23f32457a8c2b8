"""The joint space: fusion under missing modalities, losses, search and compression."""
