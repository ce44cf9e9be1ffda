"""The checks of `flamecrest check --connect`."""
