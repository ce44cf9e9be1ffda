"""Transfers: work on files that is too long for one request."""
