"""A language model that is adapted, by a few examples, to say who likes what."""
