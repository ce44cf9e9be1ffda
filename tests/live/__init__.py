"""Tests against real sshd and Slurm; `scripts/test-live` starts them."""
