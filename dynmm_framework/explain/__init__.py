"""Evidence for recommendations, and the sentences that say no more than it holds."""
