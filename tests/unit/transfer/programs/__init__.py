"""Programs for compute nodes."""
