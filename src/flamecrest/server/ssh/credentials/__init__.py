"""The credentials with which the gateway logs in as a user: static keys, certificates of its own, key services."""
