"""RecLLM's ranker: a language model grades items by a user's profile in words."""
