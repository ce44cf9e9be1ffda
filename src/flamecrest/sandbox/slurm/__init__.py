"""A toy Slurm of real executables that start fast and speak as Slurm 22.05 does; its state is one SQLite file.

The executables import modules of this package and the standard library only, and of that as little as they can.
"""
