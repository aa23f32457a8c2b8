"""Joint alignment of collaborative and content signals, with three ways of fusing them."""
