"""Tests of single checks of `flamecrest check`."""
