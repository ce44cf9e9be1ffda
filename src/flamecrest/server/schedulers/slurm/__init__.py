"""The Slurm adapter: arguments and parsers of Slurm's commands. No I/O."""
