"""Git repositories inside the allowed directories."""
