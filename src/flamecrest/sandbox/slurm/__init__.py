"""A toy Slurm of executables with the behaviour of Slurm 22.05. Its state is one SQLite file.

The executables must start fast: they import only this package and few modules of the standard library.
"""
