"""The perl program that keeps the queue; its parts are read as one source, in the order of program.py."""
