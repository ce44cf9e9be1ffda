"""A whole centre on a laptop: token issuer, SSH server, batch system; the world of the demo and of the tests."""
