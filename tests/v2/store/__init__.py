"""Tests of transfers through the sandbox's object store."""
