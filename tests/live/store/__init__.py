"""Tests of transfers through radosgw, with real Slurm jobs."""
