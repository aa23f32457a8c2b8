"""Item-kNN: items similar to those in the history."""
