"""Reviews of an item as evidence, by how useful they are."""
