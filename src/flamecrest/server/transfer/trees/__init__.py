"""Folders on clusters: list, compare, copy, delete. Synchronizations and copies are made of it."""
