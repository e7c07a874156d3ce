"""One file a family of tools; a file put here is found by itself."""
