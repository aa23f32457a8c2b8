"""A frozen language model that ranks by the probability of titles."""
