"""Introspection (RFC 7662): what an issuer says about single tokens, and in which order it is asked."""
