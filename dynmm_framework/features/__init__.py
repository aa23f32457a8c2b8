"""From media to vectors: decoding that survives anything, batches, a resumable cache."""
