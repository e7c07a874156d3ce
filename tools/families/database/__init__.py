"""SQL on SQLite files inside the allowed directories."""
