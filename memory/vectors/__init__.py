"""Vectors of the store: compressed forms, the index over them, its file, and keeping it in step."""
