"""OpenPBS by its command-line programs."""
