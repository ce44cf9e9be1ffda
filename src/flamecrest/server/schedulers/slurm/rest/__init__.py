"""The Scheduler port over slurmrestd, the REST API of Slurm."""
