"""Authentication and authorization: the caller's identity, and what the caller may do."""
