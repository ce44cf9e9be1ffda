"""The `flamecrest` command."""
