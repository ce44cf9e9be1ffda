"""Faster replacements for parts of asyncssh's transport."""
