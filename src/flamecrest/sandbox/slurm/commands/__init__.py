"""The executables of the toy Slurm. They import as little as they can, because they must start fast."""
