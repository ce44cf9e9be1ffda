"""Writes to existing files on real file systems, as real users."""
