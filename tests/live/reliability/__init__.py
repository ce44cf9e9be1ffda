"""Faults under load: what clients see, how fast they are noticed and over, and what is left afterwards."""
