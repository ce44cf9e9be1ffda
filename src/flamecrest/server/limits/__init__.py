"""Limits of what one user, and one client, may ask of the gateway. Knows identities and verbs, and no HTTP."""
