"""NARRE: what users wrote, weighed by how useful it is."""
