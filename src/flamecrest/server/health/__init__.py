"""Health of the services behind the gateway: the probes, and the board that refuses requests to failed services."""
