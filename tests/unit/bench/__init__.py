"""Tests of the benchmark's decisions, tables and report. The measurements themselves are not tested."""
