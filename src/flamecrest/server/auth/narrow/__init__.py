"""Tokens of the gateway itself, which can do less than the token that they were made with."""
