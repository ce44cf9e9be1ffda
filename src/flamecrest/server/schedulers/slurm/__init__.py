"""Slurm by its command line: argument lists and parsers. No I/O."""
