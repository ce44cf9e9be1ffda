"""Submitting a job exactly once."""
