"""The benchmark on the real centre."""
