"""Files inside the allowed directories."""
