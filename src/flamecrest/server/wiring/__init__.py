"""From settings to a running gateway."""
