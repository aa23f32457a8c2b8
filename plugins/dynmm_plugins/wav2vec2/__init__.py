"""sounds by wav2vec 2.0."""
