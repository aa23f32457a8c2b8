"""The one training loop, its settings, sampling and checkpoints."""
