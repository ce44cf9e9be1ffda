"""Transfers by a job that listens on a port of its node: for clients of firecrest-streamer, and our own."""
