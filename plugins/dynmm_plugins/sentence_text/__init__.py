"""the sentence encoder of texts."""
