"""Learning from a stream, window by window, on top of frozen parts."""
