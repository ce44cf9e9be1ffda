"""Batch systems: the Scheduler port, its values and its adapters."""
