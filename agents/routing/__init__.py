"""Which agent fits a task, and how much work it is."""
