"""A complete centre on one machine for the demo and the tests: token issuer, SSH server and batch system."""
