"""The login nodes of one cluster: their health and latency, the choice among them, and the addresses behind a name."""
