"""Training: configuration, data, loop, tasks, hooks."""
