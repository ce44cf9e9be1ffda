"""Transfers by a job that uses magic-wormhole: the file is encrypted between the job and the user's wormhole client."""
