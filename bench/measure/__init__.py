"""Load generators, and readers of access logs, SSH counters and /proc."""
