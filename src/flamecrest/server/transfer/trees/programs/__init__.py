"""The perl program that lists and changes folders on a login node."""
