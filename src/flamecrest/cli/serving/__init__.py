"""Serving HTTP: the application on a listening socket, from the start of the process to its orderly stop."""
