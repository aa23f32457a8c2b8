"""The stage graph: what a pipeline needs computed, what is computed already, and the run."""
