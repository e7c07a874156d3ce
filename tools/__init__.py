"""Tools that agents use, one file a family."""
