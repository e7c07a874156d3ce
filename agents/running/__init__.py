"""Running one task: the loop and its stages."""
