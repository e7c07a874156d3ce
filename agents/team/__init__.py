"""Several agents at one task: split, shared out, worked on side by side, merged with names."""
