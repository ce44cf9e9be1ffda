"""The audit log: a line for each call that may change something, and for each denial. Knows no HTTP and no cluster."""
