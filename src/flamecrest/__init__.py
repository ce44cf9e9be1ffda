"""Flamecrest: one HTTP API in front of every HPC cluster of a centre."""

__version__ = "0.1.0"
