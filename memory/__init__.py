"""The store of memories, experiences and runs."""
