"""A scheduler for machines without one: a queue of processes per user, kept by a program of ours on the machine."""
