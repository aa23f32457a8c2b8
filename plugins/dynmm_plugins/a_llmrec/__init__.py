"""A-LLMRec: collaborative vectors as tokens of a frozen language model."""
